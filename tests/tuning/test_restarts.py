"""A search that is killed at any write goes on as if it had never been."""

import numpy as np
import optuna
import pytest

import kopt
from tests.tuning.analytic import (
    Analytic,
    MortalStorage,
    analytic_search,
    proposals,
)

TRIALS = 14
SAMPLERS = {
    "random": kopt.tuning.Random(),
    "sobol": kopt.tuning.Sobol(),
    "tpe": kopt.tuning.TPE(startup=4),
    "bayesian": kopt.tuning.Bayesian(startup=4),
    "auto": "auto",
    "optuna": kopt.tuning.Optuna(optuna.samplers.RandomSampler),
}
PRUNERS = {
    "asha": kopt.tuning.ASHA(factor=2),
    "hyperband": kopt.tuning.Hyperband(factor=2),
    "median": kopt.tuning.Median(startup=3),
}


def curve(hp):
    """Four epochs of a loss, on a space with a condition; some trials fail."""
    rate = hp.Float("rate", 1e-4, 1, sampling="log")
    loss = (np.log10(rate) + 2) ** 2
    if hp.Choice("kind", ["plain", "deep"]) == "deep":
        loss += abs(hp.Int("depth", 1, 9) - 4)
    if 0.1 < rate < 0.3:
        raise RuntimeError("diverged")
    return [loss + 2 / epoch for epoch in range(1, 5)]


def whole(tmp_path, **arguments):
    storage = MortalStorage()
    results = analytic_search(
        curve, tmp_path / "whole", storage=storage, **settings(arguments)
    )
    return proposals(results), storage.writes


def settings(arguments):
    return {"budget": kopt.tuning.Budget(trials=TRIALS), "seed": 3, **arguments}


def interrupted(tmp_path, deaths, **arguments):
    """The same search with a death after so many writes, again and again."""
    storage = MortalStorage()
    died = 0
    for dies_at in (*deaths, None):
        storage.revive(dies_at)
        try:
            results = analytic_search(
                curve, tmp_path / "parts", storage=storage, **settings(arguments)
            )
        except BaseException:  # Optuna may stumble over the death in turn.
            if not storage.is_dead:
                raise
            died += 1
    return proposals(results), died


def deaths(writes, seed):
    return np.random.default_rng(seed).integers(1, writes // 2, size=4).tolist()


@pytest.mark.parametrize("name", SAMPLERS)
def test_proposals_and_scores_are_those_of_an_uninterrupted_search(name, tmp_path):
    expected, writes = whole(tmp_path, sampler=SAMPLERS[name])
    found, died = interrupted(tmp_path, deaths(writes, 1), sampler=SAMPLERS[name])
    assert died >= 2
    assert found == expected


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", SAMPLERS)
def test_twenty_kills_of_each_sampler_change_nothing(name, seed, tmp_path):
    expected, writes = whole(tmp_path, sampler=SAMPLERS[name])
    found, _ = interrupted(tmp_path, deaths(writes, seed), sampler=SAMPLERS[name])
    assert found == expected


@pytest.mark.parametrize("name", PRUNERS)
def test_pruners_stop_the_same_trials(name, tmp_path):
    arguments = {"pruner": PRUNERS[name], "sampler": kopt.tuning.Random(), "epochs": 4}
    expected, writes = whole(tmp_path, **arguments)
    assert {row["state"] for row in expected} >= {"complete", "pruned"}
    found, died = interrupted(tmp_path, deaths(writes, 2), **arguments)
    assert died >= 2
    assert found == expected


def test_given_configurations_are_given_again(tmp_path):
    initial = [{"rate": 0.02}, {"rate": 0.03, "kind": "plain"}]
    expected, _ = whole(tmp_path, initial=initial)
    assert [row["hp:rate"] for row in expected[:2]] == [0.02, 0.03]
    for place, dies_at in enumerate(range(3, 12)):
        found, died = interrupted(tmp_path / str(place), [dies_at, 25], initial=initial)
        assert died == 2
        assert found == expected


def test_another_seed_is_another_search(tmp_path):
    first = analytic_search(curve, tmp_path / "a", seed=1)
    other = analytic_search(curve, tmp_path / "b", seed=2)
    assert proposals(first) != proposals(other)


def test_trials_are_counted_over_restarts(tmp_path):
    for trials in (3, 3, 5):
        budget = kopt.tuning.Budget(trials=trials)
        results = analytic_search(Analytic(curve), tmp_path, budget=budget)
        counted = [r for r in results.rows() if r["state"] in ("complete", "pruned")]
        assert len(counted) == trials


def test_a_finished_sampler_is_taken_with_a_warning_in_the_log(tmp_path):
    sampler = optuna.samplers.RandomSampler(seed=1)
    results = analytic_search(curve, tmp_path, sampler=sampler)
    assert any("something else after a restart" in line for line in results.why())
