"""Canaries: what Optuna's storages know a trial by, and what its samplers read."""

import optuna

from kopt._keras.optuna_trials import id_in_storage, without


def test_a_storage_writes_to_a_trial_by_its_number():
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(storage=storage, study_name="first").ask()
    study = optuna.create_study(storage=storage, study_name="second")
    trial = study.ask()
    (frozen,) = study.get_trials()
    assert trial.number == 0
    assert id_in_storage(trial) == id_in_storage(frozen)
    storage.set_trial_user_attr(id_in_storage(trial), "key", 5)
    assert study.get_trials()[0].user_attrs == {"key": 5}


def test_samplers_are_shown_no_hidden_trial():
    study = optuna.create_study()
    for x in (0.1, 0.2, 0.9):
        distribution = optuna.distributions.FloatDistribution(0, 1)
        study.add_trial(
            optuna.trial.create_trial(
                value=x, params={"x": x}, distributions={"x": distribution}
            )
        )
    shown = without(study, lambda trial: trial.number == 1)
    assert [one.number for one in shown.get_trials()] == [0, 2]
    assert [one.number for one in study.get_trials()] == [0, 1, 2]
    seen = []
    inherited = type(shown)._get_trials

    def watched(self, *args, **arguments):
        found = inherited(self, *args, **arguments)
        seen.extend(one.number for one in found)
        return found

    type(shown)._get_trials = watched
    made = optuna.samplers.TPESampler(n_startup_trials=1, seed=0)
    study.ask()
    trial = study.get_trials()[-1]
    space = made.infer_relative_search_space(shown, trial)
    made.sample_relative(shown, trial, space)
    made.sample_independent(shown, trial, "x", distribution)
    assert {0, 2} <= set(seen) <= {0, 2, 3}
    assert [one.number for one in shown.get_trials()] == [0, 2, 3]
