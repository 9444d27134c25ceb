"""A finite space is tried once, whole, whatever the sampler."""

import optuna
import pytest

import kopt
from kopt.tuning._samplers.seeded import SeededSampler
from kopt.tuning._samplers.untried import is_left

SAMPLERS = {
    "grid": kopt.tuning.Grid(),
    "random": kopt.tuning.Random(),
    "sobol": kopt.tuning.Sobol(),
    "tpe": kopt.tuning.TPE(startup=3),
    "bayesian": kopt.tuning.Bayesian(startup=3),
}


def conditional(trial):
    """3 * (2 + 4) configurations; the name `c` has no condition that is declared."""
    a = trial.suggest_int("a", 0, 2)
    if trial.suggest_categorical("b", ["x", "y"]) == "x":
        return a + trial.suggest_float("c", 0, 0.3, step=0.1)
    return a + trial.suggest_int("d", 8, 10, step=2)


def studied(sampler):
    study = optuna.create_study()
    study.sampler = SeededSampler(sampler, 0, study)
    return study


def key(trial):
    rounded = {k: round(v, 9) if isinstance(v, float) else v for k, v in trial.items()}
    return tuple(sorted(rounded.items()))


@pytest.mark.parametrize("name", SAMPLERS)
def test_each_configuration_comes_once(name):
    study = studied(SAMPLERS[name])
    for number in range(18):
        assert is_left(study.trials, {}), f"called exhausted after {number}"
        study.optimize(conditional, n_trials=1)
    assert len({key(trial.params) for trial in study.trials}) == 18
    assert not is_left(study.trials, {})


def test_a_space_with_an_endless_name_is_never_exhausted():
    study = studied(SAMPLERS["random"])
    study.optimize(lambda t: t.suggest_int("a", 0, 1) + t.suggest_float("b", 0, 1), 20)
    assert is_left(study.trials, {})


def test_an_endless_branch_stays_open_beside_a_finite_one():
    def objective(trial):
        if trial.suggest_categorical("kind", ["finite", "endless"]) == "endless":
            return trial.suggest_float("x", 0, 1)
        return trial.suggest_int("n", 0, 1)

    study = studied(SAMPLERS["random"])
    study.optimize(objective, 30)
    kinds = [trial.params["kind"] for trial in study.trials]
    assert kinds.count("finite") == 2
    assert kinds.count("endless") == 28


def test_a_configuration_that_fails_before_its_last_name_is_tried_once():
    def objective(trial):
        if trial.suggest_categorical("kind", ["good", "bad"]) == "bad":
            raise ValueError("no such thing")
        return trial.suggest_int("n", 0, 2)

    study = studied(SAMPLERS["grid"])
    study.optimize(objective, 4, catch=(ValueError,))
    assert [trial.params["kind"] for trial in study.trials].count("bad") == 1
    assert not is_left(study.trials, {})


def test_trials_that_run_count_as_tried():
    study = studied(SAMPLERS["grid"])
    drawn = [study.ask().suggest_int("a", 0, 2) for _ in range(3)]
    assert drawn == [0, 1, 2]


def test_the_nearest_value_takes_the_place_of_one_that_was_tried():
    class Always(kopt.tuning.Random):
        def sampler(self, seed=0, place=0):
            return optuna.samplers.PartialFixedSampler(
                {"a": 5}, optuna.samplers.RandomSampler()
            )

    study = studied(Always())
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        drawn = [study.ask().suggest_int("a", 0, 9) for _ in range(4)]
    assert drawn[0] == 5
    assert sorted(drawn[1:3]) == [4, 6]
    assert drawn[3] in (3, 7)
