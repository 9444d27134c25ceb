"""Pruners act on epochs, from the first one on that tells something."""

import inspect

import numpy as np
import optuna
import pytest

import kopt
from kopt.tuning._samplers.hyperband_pruner import PlacedHyperbandPruner
from kopt.tuning._samplers.measured_pruner import first_telling_epoch
from tests.tuning.analytic import Analytic, analytic_search

EPOCHS = 9
PRUNERS = [
    kopt.tuning.ASHA(),
    kopt.tuning.Hyperband(),
    kopt.tuning.Median(),
    kopt.tuning.Optuna(pruner=optuna.pruners.PercentilePruner(25.0)),
]


def told_at_once(hp):
    """Curves that never cross."""
    return [hp.Float("x", 0, 1) + 1 / epoch for epoch in range(1, EPOCHS + 1)]


def crossing(hp):
    """Curves that are in reverse until the fifth epoch."""
    x = hp.Float("x", 0, 1)
    return [5 - x] * 4 + [2 + x] * 5


def search(function, tmp_path, pruner, trials=30):
    model = Analytic(function)
    results = analytic_search(
        model,
        tmp_path,
        pruner=pruner,
        sampler=kopt.tuning.Random(),
        budget=kopt.tuning.Budget(trials=trials),
        epochs=EPOCHS,
        storage=optuna.storages.InMemoryStorage(),
    )
    return results, model


@pytest.mark.parametrize("pruner", PRUNERS, ids=lambda one: type(one).__name__)
def test_hopeless_trials_are_stopped_and_the_best_is_not(pruner, tmp_path):
    results, model = search(told_at_once, tmp_path, pruner)
    rows = results.rows()
    pruned = [row for row in rows if row["state"] == "pruned"]
    assert len(pruned) >= 5
    assert all(row["epochs"] < EPOCHS for row in pruned)
    assert sum(map(len, model.curves)) == sum(row["epochs"] for row in rows)
    # The best of all is among those that ran to their end.
    assert results.best_values["x"] == min(row["hp:x"] for row in rows)


def test_the_first_complete_trials_are_never_stopped(tmp_path):
    results, _ = search(told_at_once, tmp_path, kopt.tuning.ASHA())
    assert [row["state"] for row in results.rows()[:6]] == ["complete"] * 6
    assert any("stopped from epoch 1 on" in line for line in results.why())


def test_no_trial_is_stopped_before_ranks_agree(tmp_path):
    results, _ = search(crossing, tmp_path, kopt.tuning.Median())
    epochs = [row["epochs"] for row in results.rows() if row["state"] == "pruned"]
    assert epochs and min(epochs) >= 5
    assert any("stopped from epoch 5 on" in line for line in results.why())


@pytest.mark.parametrize("pruner", [kopt.tuning.ASHA, kopt.tuning.Median])
def test_the_users_first_epoch_is_kept(pruner, tmp_path):
    results, _ = search(told_at_once, tmp_path, pruner(min_epochs=4))
    epochs = [row["epochs"] for row in results.rows() if row["state"] == "pruned"]
    assert epochs and min(epochs) >= 4


def test_the_first_telling_epoch_is_that_of_the_best_value_so_far():
    final = np.arange(6.0)
    curves = np.stack([9 - final, 8 - final, final, final + 1], axis=1)
    assert first_telling_epoch(curves.tolist()) == 3
    assert first_telling_epoch(np.stack([final] * 3, axis=1).tolist()) == 1


def test_ranks_that_never_agree_stop_nothing():
    assert first_telling_epoch([[1.0, 1.0]] * 6) == 3


def test_a_hyperband_has_trials_in_several_brackets():
    study = optuna.create_study()
    pruner = PlacedHyperbandPruner(
        study, min_resource=1, max_resource=27, reduction_factor=3
    )
    for _ in range(40):
        trial = study.ask()
        trial.report(1.0, 1)
        pruner.prune(study, study.trials[trial.number])
        study.tell(trial, 1.0)
    brackets = {pruner._get_bracket_id(study, trial) for trial in study.trials}
    assert brackets >= {0, 1}


def test_optuna_still_chooses_brackets_where_kopt_does():
    """A canary: the private method that kopt overrides."""
    source = inspect.getsource(optuna.pruners.HyperbandPruner)
    assert source.count("_get_bracket_id(") >= 3
    assert list(
        inspect.signature(optuna.pruners.HyperbandPruner._get_bracket_id).parameters
    ) == ["self", "study", "trial"]
