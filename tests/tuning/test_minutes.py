"""Minutes hold for all of a search, refits included, by a clock that is set by hand."""

import optuna
import pytest

import kopt
from kopt.tuning import Budget
from kopt.tuning._trials.clock import Clock, OutOfTime
from kopt.tuning._trials.errors import SearchError
from kopt.tuning._trials.recorder import Recorder
from tests.tuning.analytic import Analytic, Model, analytic_search


class Watch:
    """A clock that moves when it is told to."""

    def __init__(self):
        self.seconds = 0.0

    def monotonic(self):
        return self.seconds


@pytest.fixture
def watch(monkeypatch):
    watch = Watch()
    for module in ("searching", "tuner", "_trials.clock"):
        monkeypatch.setattr(f"kopt.tuning.{module}.time", watch)
    return watch


class Paced(Analytic):
    """Twenty epochs of so many seconds, and a model that takes a while to save."""

    def __init__(self, watch, pace, saving=0.0):
        super().__init__(self.curve_of)
        self.watch, self.pace, self.saving = watch, pace, saving

    def curve_of(self, hp):
        x = hp.Float("x", 0, 1)
        for epoch in range(20):
            self.watch.seconds += self.pace
            yield x + 1.0 / (epoch + 1)

    def build(self, hp):
        super().build(hp)
        model, watch, saving = Model(), self.watch, self.saving
        save = model.save

        def slow_save(path):
            watch.seconds += saving
            save(path)

        model.save = slow_save
        return model


def seconds(count):
    return count / 60


def test_a_search_leaves_the_time_of_its_best_trial_for_the_refit(tmp_path, watch):
    budget = Budget(minutes=seconds(90), refits=1)
    results = analytic_search(Paced(watch, 1), tmp_path, budget=budget)
    # A fourth trial of 20 seconds would fit, but for the refit.
    assert (watch.seconds, len(results.rows())) == (60, 3)
    ((_, score),) = results.refit()
    assert watch.seconds == 80
    assert score == pytest.approx(results.best_score)


@pytest.mark.parametrize("refits", [1, 2])
def test_a_first_trial_that_is_too_long_shares_the_time_with_its_refits(
    refits, tmp_path, watch
):
    budget = Budget(minutes=seconds(90), refits=refits)
    results = analytic_search(Paced(watch, 5), tmp_path, budget=budget)
    assert watch.seconds == 90 / (1 + refits)
    assert len(results.refit(seeds=refits)) == refits
    assert watch.seconds == 90


def test_a_refit_that_is_asked_for_later_takes_the_time_it_needs(tmp_path, watch):
    budget = Budget(minutes=seconds(90), refits=1)
    results = analytic_search(Paced(watch, 5), tmp_path, budget=budget)
    watch.seconds = 1000.0
    results.refit()
    assert watch.seconds == 1100


def test_a_refit_without_time_for_an_epoch_is_an_error(tmp_path, watch):
    budget = Budget(minutes=seconds(90), refits=1)
    model = Paced(watch, 1)
    results = analytic_search(model, tmp_path, budget=budget)
    model.curve_of = model.function = lambda hp: iter(())
    watch.seconds = 89.0

    def late(hp):
        watch.seconds += 2
        yield hp.Float("x", 0, 1)

    model.function = late
    with pytest.raises(SearchError, match="used up before the first epoch of a refit"):
        results.refit()


def test_saving_the_model_of_the_last_trial_is_within_the_minutes(tmp_path, watch):
    model = Paced(watch, 1, saving=5)
    results = analytic_search(
        model, tmp_path, budget=Budget(minutes=seconds(72)), keep=9
    )
    # A third trial would train until 70, and its model would be saved at 75.
    assert (watch.seconds, len(results.rows())) == (50, 2)


def test_what_comes_before_the_first_trial_counts(tmp_path, watch, monkeypatch):
    from kopt.tuning._trials import search

    opened = search.storage_of

    def slowly(*arguments):
        watch.seconds += 30
        return opened(*arguments)

    monkeypatch.setattr(search, "storage_of", slowly)
    analytic_search(Paced(watch, 1), tmp_path, budget=Budget(minutes=seconds(60)))
    assert watch.seconds == 50


@pytest.mark.parametrize("moment", ["on_train_begin", "on_test_begin"])
def test_no_graph_is_built_after_the_deadline(watch, moment):
    clock = Clock(Budget(minutes=seconds(60)))
    objective = kopt.tuning.objective("val_loss")
    trial = optuna.create_study().ask()
    recorder = Recorder(trial, objective, clock, first_expected=0, keep_best=True)
    getattr(recorder, moment)()
    watch.seconds = 60.0
    with pytest.raises(OutOfTime, match="minutes"):
        getattr(recorder, moment)()


def test_refits_need_minutes():
    with pytest.raises(TypeError, match="`refits` keeps a part of the `minutes`"):
        Budget(trials=3, refits=1)
