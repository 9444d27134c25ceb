"""How one trial of a search runs, and what of it is kept.

`questions` turns Keras Tuner's hyperparameters into Optuna's distributions; `space`
holds the names that a study has met and asks its trials for values. `data` brings the
user's data into the arguments of `fit`. `recorder` is the callback that reports
epochs, asks the pruner and watches the clock; `run` builds and fits one model with it.
`choices` is what becomes of the sampler, pruner and space that were given, `ending`
when the search is over, `failures` when too many trials in a row have failed; `told`
are the trials that somebody else runs. `records` names what is written to a trial
beside its parameters, so that the study alone says everything; `study` opens one.
"""
