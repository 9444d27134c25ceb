"""Budgets, failures and errors of a search."""

import math
import sys

import keras
import keras_tuner
import numpy as np
import optuna
import pytest

import kopt
from kopt.tuning._trials.errors import (
    ObjectiveError,
    SearchError,
    SpaceError,
    StorageError,
)
from tests.tuning.analytic import Analytic, Model, analytic_search

Budget = kopt.tuning.Budget


def square(hp):
    return [(hp.Float("x", -1, 1) - 0.3) ** 2]


def states(results):
    return [row["state"] for row in results.rows()]


# Budgets


def test_a_budget_of_trials_is_kept_exactly(tmp_path):
    results = analytic_search(square, tmp_path, budget=Budget(trials=7))
    assert states(results) == ["complete"] * 7
    assert results.why()[-1] == "The search ended: 7 trials are done."


def test_failed_trials_do_not_count(tmp_path):
    def fails_at_first(hp):
        x = hp.Float("x", -1, 1)
        if len(model.curves) < 3:
            model.curves.append([])
            raise ValueError("not yet")
        return [x]

    model = Analytic(fails_at_first)
    results = analytic_search(model, tmp_path, budget=Budget(trials=2))
    assert states(results) == ["failed"] * 3 + ["complete"] * 2
    assert "ValueError: not yet" in results.rows()[0]["reason"]


def test_a_budget_of_epochs_is_never_exceeded(tmp_path):
    def four_epochs(hp):
        return [hp.Float("x", 0, 1)] * 4

    results = analytic_search(four_epochs, tmp_path, budget=Budget(epochs=18), epochs=4)
    assert [row["epochs"] for row in results.rows()] == [4] * 4
    assert "16 epochs are trained" in results.why()[-1]


class Watch:
    """A clock that moves when it is told to."""

    def __init__(self):
        self.seconds = 0.0

    def monotonic(self):
        return self.seconds


@pytest.fixture
def watch(monkeypatch):
    watch = Watch()
    monkeypatch.setattr("kopt.tuning._trials.clock.time", watch)
    return watch


def paced(watch, seconds):
    """A function of `hp` whose epochs take so many seconds, by the trial's number."""

    def curve(hp):
        x = hp.Float("x", 0, 1)
        pace = seconds[min(len(model.curves), len(seconds)) - 1]
        for epoch in range(20):
            watch.seconds += pace
            yield x + 1.0 / (epoch + 1)

    model = Analytic(curve)
    return model


def test_the_deadline_holds_inside_of_a_training(tmp_path, watch):
    model = paced(watch, [10])
    results = analytic_search(model, tmp_path, budget=Budget(minutes=1))
    assert watch.seconds == 60
    # With nothing better, what was cut is the answer.
    assert results.best_trial.state.name == "PRUNED"
    assert results.best_score == min(results.history(0)["val_loss"])
    assert "its minutes are used up" in results.why()[-1]


def test_a_trial_that_the_deadline_cut_runs_again_with_more_time(tmp_path, watch):
    model = paced(watch, [1, 4, 1])
    first = analytic_search(model, tmp_path, budget=Budget(minutes=1))
    assert states(first) == ["complete", "cut off"]
    again = analytic_search(model, tmp_path, budget=Budget(minutes=2, trials=3))
    assert states(again) == ["complete", "cut off", "complete", "complete"]
    assert again.rows()[2]["hp:x"] == again.rows()[1]["hp:x"]


def test_no_trial_is_started_that_would_take_longer_than_the_shortest(tmp_path, watch):
    model = paced(watch, [1, 2, 1])
    results = analytic_search(model, tmp_path, budget=Budget(minutes=75 / 60))
    assert states(results) == ["complete", "complete"]
    assert watch.seconds == 60


def test_minutes_are_those_of_all_restarts(tmp_path, watch):
    model = paced(watch, [1])
    for trials, expected in ((2, 2), (9, 3), (9, 3)):
        budget = Budget(minutes=61 / 60, trials=trials)
        assert len(analytic_search(model, tmp_path, budget=budget).rows()) == expected


def test_a_trial_is_cut_at_its_own_limit_and_counts(tmp_path, watch):
    model = paced(watch, [7, 1])
    budget = Budget(trials=2, trial_minutes=30 / 60)
    results = analytic_search(model, tmp_path, budget=budget)
    cut, complete = results.rows()
    assert (cut["state"], complete["state"]) == ("pruned", "complete")
    assert "trial_minutes" in cut["reason"]
    assert cut["epochs"] == 4
    assert results.best_trial.number == 1


def test_an_exhausted_space_ends_the_search_and_says_so(tmp_path):
    results = analytic_search(
        lambda hp: [hp.Int("n", 1, 3)],
        tmp_path,
        budget=Budget(trials=50),
        sampler=kopt.tuning.Random(),
    )
    assert sorted(row["hp:n"] for row in results.rows()) == [1, 2, 3]
    assert "all of the space has been tried" in results.why()[-1]


# Failures


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_not_finite_fails_its_trial(tmp_path, value):
    def sometimes(hp):
        return [1.0, value] if hp.Boolean("bad") else [2.0, 1.5]

    results = analytic_search(sometimes, tmp_path, budget=Budget(trials=5))
    rows = {row["hp:bad"]: row for row in results.rows()}
    assert rows[True]["state"] == "failed"
    assert f"val_loss is {value} after epoch 2" in rows[True]["reason"]
    assert results.best_score == 1.5


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError("no room"), "out of memory"),
        (keras_tuner.errors.FailedTrialError("too large"), "refused"),
        (RuntimeError("no such shape"), "error"),
    ],
)
def test_an_error_is_kept_with_its_trial(tmp_path, error, kind):
    def sometimes(hp):
        if hp.Boolean("bad"):
            raise error
        return [1.0]

    results = analytic_search(sometimes, tmp_path, budget=Budget(trials=5))
    (failed,) = [t for t in results.study.trials if t.state.name == "FAIL"]
    assert failed.user_attrs["kopt:failure"] == kind
    assert str(error) in failed.user_attrs["kopt:reason"]
    assert results.best_values == {"bad": False}


def test_ten_failures_in_a_row_end_the_search_with_the_first_reason(tmp_path):
    def never(hp):
        raise ValueError(f"no {hp.Float('x', 0, 1) < 2}")

    with pytest.raises(SearchError, match=r"10 trials in a row failed.*ValueError: no"):
        analytic_search(never, tmp_path)


@pytest.mark.parametrize("result", [0.25, {"val_loss": 0.25, "other": 1}])
def test_a_training_may_return_its_score(tmp_path, result):
    class Own(keras_tuner.HyperModel):
        def build(self, hp):
            hp.Int("n", 1, 1)
            return Model()

        def fit(self, hp, model, x, y, callbacks=None):
            return result

    results = analytic_search(Own(), tmp_path, budget=Budget(trials=1))
    assert results.best_score == 0.25


@pytest.mark.parametrize(
    ("score", "expected"), [("best", 1.0), ("last", 2.0), (2, 1.5)]
)
def test_a_training_may_return_its_history(tmp_path, score, expected):
    class Own(keras_tuner.HyperModel):
        def build(self, hp):
            hp.Int("n", 1, 1)
            return Model()

        def fit(self, hp, model, x, y, callbacks=None):
            history = keras.callbacks.History()
            history.history = {"val_loss": [3.0, 1.0, 2.0]}
            return history

    results = analytic_search(Own(), tmp_path, budget=Budget(trials=1), score=score)
    assert results.best_score == expected


def test_the_score_of_several_trainings_is_their_mean(tmp_path):
    class Folds(keras_tuner.HyperModel):
        def build(self, hp):
            hp.Int("n", 1, 1)
            return Model()

        def fit(self, hp, model, x, y, callbacks=None):
            return [1.0, {"val_loss": 2.0}]

    results = analytic_search(Folds(), tmp_path, budget=Budget(trials=1))
    assert results.best_score == 1.5


def test_values_that_fit_asks_for_are_searched_from_the_first_trial_on(tmp_path):
    class Own(keras_tuner.HyperModel):
        def build(self, hp):
            return Model()

        def fit(self, hp, model, x, y, callbacks=None):
            return float(hp.Int("batch_size", 1, 1000))

    drawn = {
        analytic_search(
            Own(), tmp_path / str(seed), budget=Budget(trials=1), seed=seed
        ).best_values["batch_size"]
        for seed in range(4)
    }
    assert len(drawn) == 4


def test_data_may_be_a_function_of_the_hyperparameters(tmp_path):
    class Own(keras_tuner.HyperModel):
        def build(self, hp):
            return Model()

        def fit(self, hp, model, x, y, callbacks=None):
            return float(sum(x))

    results = kopt.tuning.tune(
        Own(),
        lambda hp: ([1] * hp.Int("samples", 1, 5), None),
        objective="val_loss",
        budget=Budget(trials=9),
        directory=tmp_path,
    )
    assert sorted(row["score"] for row in results.rows()) == [1, 2, 3, 4, 5]


# Errors


def test_an_objective_that_is_not_returned_is_an_error(tmp_path):
    class Own(Analytic):
        def fit(self, hp, model, *args, callbacks, **kwargs):
            return {"val_mae": 1.0}

    with pytest.raises(ObjectiveError, match=r"'val_loss' is not logged.*'val_mae'"):
        analytic_search(Own(square), tmp_path)


def test_an_empty_space_is_an_error(tmp_path):
    with pytest.raises(SpaceError, match="asks `hp` for nothing"):
        analytic_search(lambda hp: [1.0], tmp_path)


def test_a_grid_larger_than_the_budget_is_an_error(tmp_path):
    with pytest.raises(SpaceError, match="12 configurations, and the budget 11"):
        analytic_search(
            lambda hp: [hp.Int("a", 1, 4) + hp.Int("b", 1, 3)],
            tmp_path,
            sampler=kopt.tuning.Grid(),
            budget=Budget(trials=11),
        )


def test_a_grid_without_steps_is_an_error(tmp_path):
    with pytest.raises(SpaceError, match=r"'x' has none.*Give it a `step=`"):
        analytic_search(square, tmp_path, sampler=kopt.tuning.Grid())


def test_a_grid_that_fits_the_budget_is_tried_in_order(tmp_path):
    results = analytic_search(
        lambda hp: [hp.Int("a", 1, 2) + hp.Int("b", 1, 2)],
        tmp_path,
        sampler="grid",
        budget=Budget(trials=4),
    )
    found = [(row["hp:a"], row["hp:b"]) for row in results.rows()]
    assert found == [(1, 1), (1, 2), (2, 1), (2, 2)]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"objective": "val_accuracy"}, "has the direction 'minimize'"),
        ({"objective": "val_mae"}, "another objective: 'val_loss'"),
        ({"seed": 5}, "another seed: 0"),
        ({"data": ([0], [1, 2])}, "another version of the data"),
    ],
)
def test_a_study_about_something_else_is_left_alone(tmp_path, changed, message):
    arguments = {"objective": "val_loss", "data": ([0], [0]), "seed": 0, **changed}
    analytic_search(square, tmp_path, budget=Budget(trials=2))
    before = kopt.tuning.Results(tmp_path).rows()
    with pytest.raises(SearchError, match=message):
        kopt.tuning.tune(
            Analytic(square),
            arguments.pop("data"),
            directory=tmp_path,
            budget=Budget(trials=9),
            **arguments,
        )
    assert kopt.tuning.Results(tmp_path).rows() == before


def test_data_of_other_values_are_another_version(tmp_path):
    x = np.zeros((4, 2))
    for value, wrong in ((0, False), (1, True)):
        x[3, 1] = value
        try:
            kopt.tuning.tune(
                Analytic(square),
                (x, x),
                objective="val_loss",
                budget=Budget(trials=1),
                directory=tmp_path,
            )
        except SearchError:
            assert wrong
        else:
            assert not wrong


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("nonsense", "`storage` must be an address"),
        ("sqlite:////no/such/folder/study.db", "cannot be used: unable to open"),
        (
            "mysql+pymysql://me:secret@nowhere/db",
            r"driver.*me:\*\*\*@nowhere.*not inst",
        ),
    ],
)
def test_a_storage_that_cannot_be_used_is_an_error(tmp_path, storage, message):
    with pytest.raises(StorageError, match=message) as caught:
        analytic_search(square, tmp_path, storage=storage)
    assert "secret" not in str(caught.value)


def test_studies_of_several_names_share_a_folder(tmp_path):
    for name in ("a", "b"):
        analytic_search(square, tmp_path, name=name, budget=Budget(trials=2))
    assert len(kopt.tuning.Results(tmp_path, name="a").rows()) == 2
    with pytest.raises(ValueError, match=r"no study 'c'\. There are: 'a', 'b'"):
        kopt.tuning.Results(tmp_path, name="c")


def test_an_initial_value_out_of_its_range_is_an_error(tmp_path):
    with pytest.raises(SpaceError, match="`initial` has 'x'=7"):
        analytic_search(square, tmp_path, initial=[{"x": 7}])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"budget": 30}, TypeError, r"`budget` must be a kopt\.tuning\.Budget"),
        ({"sampler": "genetic"}, ValueError, "kopt.tuning has no 'genetic'"),
        ({"sampler": kopt.tuning.ASHA()}, TypeError, "`sampler` must be 'auto' or"),
        ({"pruner": kopt.tuning.TPE()}, TypeError, "`pruner` must be None or"),
        ({"score": "first"}, TypeError, "`score` must be a whole number"),
        ({"keep": 0}, ValueError, "`keep` must be a whole number of at least 1"),
        ({"seed": -1}, ValueError, "`seed` must be a whole number of at least 0"),
    ],
)
def test_wrong_arguments_are_refused_with_the_rule(tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        analytic_search(square, tmp_path, **arguments)


def test_a_missing_optuna_is_an_error_that_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r'pip install "keras-kopt\[tune\]"'):
        analytic_search(square, tmp_path)


def test_a_finished_model_is_refused_with_the_way_out():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    with pytest.raises(TypeError, match="Give a function that builds it"):
        kopt.tuning.tune(model, None, objective="loss", budget=Budget(trials=1))


def test_an_objective_of_an_unknown_direction_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Whether 'val_profit' should be high"):
        kopt.tuning.tune(square, None, objective="val_profit", budget=Budget(trials=1))


# Which sampler


def test_optunas_own_objects_are_taken(tmp_path):
    results = analytic_search(
        square,
        tmp_path,
        sampler=kopt.tuning.Optuna(optuna.samplers.RandomSampler),
        pruner=optuna.pruners.NopPruner(),
        budget=Budget(trials=3),
    )
    assert len({row["hp:x"] for row in results.rows()}) == 3
