import numpy as np
import optuna
import pytest
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState, create_trial

import kopt
from kopt.tuning._samplers.encoded import Encoding
from kopt.tuning._samplers.seeded import SeededSampler
from kopt.tuning._trials import records


def branin(trial):
    x, y = trial.suggest_float("x", -5, 10), trial.suggest_float("y", 0, 15)
    bent = y - 5.1 / (4 * np.pi**2) * x**2 + 5 / np.pi * x - 6
    return bent**2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x) + 10 - 0.397887


def searched(sampler, objective, trials, seed=0, direction="minimize"):
    study = optuna.create_study(direction=direction)
    study.sampler = SeededSampler(sampler, seed, study)
    study.optimize(objective, trials)
    return study


def history(*extra, values=(5.0, 3.0, 2.0, 4.0, 1.0, 6.0)):
    """A study of a line with some trials, and whatever else is added."""
    study = optuna.create_study()
    space = {"x": FloatDistribution(0, 1)}
    for place, value in enumerate(values):
        params = {"x": place / len(values)}
        study.add_trial(create_trial(params=params, distributions=space, value=value))
    for trial in extra:
        study.add_trial(create_trial(distributions=space, **trial))
    return study


def proposed(study, seed=0):
    study.sampler = SeededSampler(kopt.tuning.Bayesian(startup=3), seed, study)
    return study.ask().suggest_float("x", 0, 1)


def test_it_comes_nearer_to_the_best_than_random_draws_do():
    found = {}
    for sampler in (kopt.tuning.Random(), kopt.tuning.Bayesian()):
        runs = [searched(sampler, branin, 30, seed).best_value for seed in range(3)]
        found[type(sampler).__name__] = max(runs)
    assert found["Bayesian"] < 0.1
    assert found["Bayesian"] < found["Random"] / 3


def test_larger_is_better_where_it_should_be():
    study = searched(
        kopt.tuning.Bayesian(), lambda t: -branin(t), 25, direction="maximize"
    )
    assert study.best_value > -0.3


def test_a_step_is_proposed_where_it_was_seen_to_be_good():
    assert 0.5 < proposed(history()) < 0.8


def test_what_a_pruned_trial_was_pruned_with_does_not_count():
    found = {
        proposed(
            history({"params": {"x": 0.6}, "state": TrialState.PRUNED, "value": v})
        )
        for v in (-1e9, 0.5, 1e9)
    }
    assert len(found) == 1


def test_a_pruned_trial_keeps_proposals_away():
    without = proposed(history())
    pruned = {"params": {"x": without}, "state": TrialState.PRUNED}
    assert abs(proposed(history(pruned)) - without) > 0.01


def test_a_running_trial_keeps_proposals_away():
    study = history()
    first = proposed(study)
    assert len(study.get_trials(states=(TrialState.RUNNING,))) == 1
    assert abs(proposed(study) - first) > 1e-3


@pytest.mark.parametrize(("kind", "away"), [("not finite", True), ("error", False)])
def test_a_failure_counts_against_its_configuration_if_that_is_to_blame(kind, away):
    without = proposed(history())
    failed = {
        "params": {"x": without + 0.001},
        "state": TrialState.FAIL,
        "user_attrs": {records.FAILURE: kind},
    }
    moved = abs(proposed(history(failed)) - without)
    assert (moved > 0.03) == away


def test_a_diverged_score_does_not_bend_the_model():
    usual = proposed(history(values=(5.0, 3.0, 2.0, 4.0, 1.0, 6.0)))
    diverged = proposed(history(values=(5.0, 3.0, 2.0, 4.0, 1.0, 6e30)))
    assert usual == diverged


SPACE = {
    "kind": CategoricalDistribution(("mlp", "cnn")),
    "units": IntDistribution(1, 8),
    "rate": FloatDistribution(1e-4, 1.0, log=True),
}
TRIED = [
    {"kind": "mlp", "units": 3, "rate": 0.1},
    {"kind": "cnn", "rate": 0.01},
    {"kind": "mlp", "units": 8, "rate": 0.5},
]


def test_rows_lead_back_to_their_configurations():
    encoding = Encoding(SPACE, TRIED)
    found = [encoding.configuration(row) for row in encoding.rows(TRIED)]
    for one, expected in zip(found, TRIED, strict=True):
        assert one == pytest.approx(expected) if "kind" not in one else True
        assert one.keys() == expected.keys()
        assert one["kind"] == expected["kind"]
        assert one.get("units") == expected.get("units")
        assert one["rate"] == pytest.approx(expected["rate"])


def test_names_are_absent_with_the_values_that_never_brought_them():
    encoding = Encoding(SPACE, TRIED)
    rows = np.array([[0.0, 0.3, 0.5], [1.0, 0.3, 0.5]])
    completed = encoding.completed(rows)
    assert not np.isnan(completed[0]).any()
    np.testing.assert_array_equal(np.isnan(completed[1]), [False, True, False])


def test_numbers_move_to_the_values_that_there_are():
    encoding = Encoding({"units": IntDistribution(1, 4)}, [{"units": 1}])
    rows = encoding.completed(np.array([[0.0], [0.3], [0.49], [0.51], [1.0]]))
    found = [encoding.configuration(row)["units"] for row in rows]
    assert found == [1, 2, 2, 3, 4]
