"""Situations in which a law was once broken, as `search` printed them."""

FOUND = [
    *(
        "a_variable_waits_for_its_own_gradients(Gaps("
        f"optimizer={optimizer}, batches=((0,), *((0, 1),) * 6)))"
        for optimizer in (
            "Optimizer('Adam', wrapper='Lookahead')",
            "Optimizer('Adam', wrapper='Mechanic')",
            "Optimizer('Adam', wrapper='MomentumSAM')",
            "Optimizer('Adam', wrapper='ScheduleFree')",
            "Optimizer('Adam', wrapper='WeightAverage')",
        )
    ),
    *(
        "a_file_changes_nothing_that_follows(Situation("
        f"optimizer={optimizer}, story=(Fit(), SaveAndLoad('.h5'), Fit())))"
        for optimizer in (
            "Optimizer('CAME')",
            "Optimizer('Muon')",
            "Optimizer('Adam', {'state_dtype': 'bfloat16'})",
        )
    ),
]
