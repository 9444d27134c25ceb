"""What chooses the next configuration, as Optuna's samplers.

`seeded` stands between the study and any other sampler: it seeds each trial by its
place, so that a restart changes nothing, and hands out no configuration twice, by what
`untried` finds left of a finite space. `grid_sampler`, `sobol_sampler` and
`bayesian_sampler` are kopt's own; the last is the acquisition over a
`gaussian_process` of `encoded` trials. `hyperband_pruner` and `measured_pruner` are
about stopping trials early.
"""
