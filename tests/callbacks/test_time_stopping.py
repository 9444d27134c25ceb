import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt.callbacks import FitSchedule, TimeStopping, _clock
from kopt.schedules import (
    WSD,
    Constant,
    Cosine,
    Cyclical,
    Exponential,
    Linear,
    Scale,
    Schedule,
    Sequential,
    Warmup,
)

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
Y = X @ np.ones((3, 2), "float32")


class Seconds:
    """A clock that stands still but for what a run is said to take."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now


class Takes(keras.callbacks.Callback):
    """Lets time pass: in each batch and validation, and more in the first of each."""

    def __init__(self, seconds, batch, validation=0.0, first=0.0):
        super().__init__()
        self.seconds, self.begin = seconds, seconds.now
        self.batch, self.validation, self.first = batch, validation, first
        self.rates, self.after_training = [], None

    def on_train_batch_end(self, batch, logs=None):
        self.seconds.now += self.batch + (0.0 if self.rates else self.first)
        self.rates.append(float(self.model.optimizer.learning_rate.numpy()))
        self.after_training = self.seconds.now - self.begin

    def on_test_batch_end(self, batch, logs=None):
        self.seconds.now += self.validation

    @property
    def after_all(self):
        return self.seconds.now - self.begin


@pytest.fixture
def seconds(monkeypatch):
    clock = Seconds()
    monkeypatch.setattr(_clock, "time", clock)
    return clock


def fit(*callbacks, epochs=1000, validate=False):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(kopt.SGD(0.01), "mse")
    arguments = {"validation_data": (X[:4], Y[:4])} if validate else {}
    return model.fit(
        X, Y, 4, epochs=epochs, verbose=0, callbacks=callbacks, **arguments
    )


def test_training_ends_with_the_batch_that_is_nearest_to_the_end(seconds):
    for batch, count in ((1.0, 60), (0.9, 67), (7.9, 8), (7.0, 9)):
        takes, stopping = Takes(seconds, batch), TimeStopping(minutes=1)
        history = fit(takes, stopping)
        assert len(takes.rates) == count
        assert stopping.stopped
        assert len(history.epoch) == -(-count // 10)


def test_validation_is_within_the_time(seconds):
    takes = Takes(seconds, batch=1.0, validation=3.0)
    fit(TimeStopping(minutes=1), takes, validate=True)
    assert takes.after_all == pytest.approx(60.0, abs=0.6)
    assert takes.after_all - takes.after_training == pytest.approx(3.0)


def test_an_epoch_that_there_is_no_time_for_is_not_begun(seconds):
    # Four epochs take 52 seconds, a fifth validation would end after the time.
    takes = Takes(seconds, batch=1.0, validation=10.0)
    fit(TimeStopping(minutes=85 / 60), takes, validate=True)
    assert len(takes.rates) == 40 and takes.after_all == pytest.approx(80.0)


def test_a_slow_first_batch_does_not_count_as_the_length_of_others(seconds):
    takes = Takes(seconds, batch=1.0, first=25.0)
    fit(TimeStopping(minutes=1), takes)
    assert takes.after_all == pytest.approx(60.0, abs=0.6)


def test_it_leaves_a_shorter_run_alone(seconds):
    stopping = TimeStopping(minutes=1)
    assert len(fit(Takes(seconds, 0.1), stopping, epochs=3).epoch) == 3
    assert not stopping.stopped


def test_each_fit_has_its_own_time(seconds):
    stopping = TimeStopping(minutes=1)
    for _ in range(2):
        takes = Takes(seconds, 1.0)
        fit(stopping, takes)
        assert len(takes.rates) == 60


def test_fractions_of_the_run_are_fractions_of_the_time(seconds):
    curve = FitSchedule(Linear(1.0, steps=1.0), minutes=1)
    takes = Takes(seconds, batch=1.0)
    history = fit(curve, takes)
    np.testing.assert_allclose(takes.rates, 1 - np.arange(60) / 60, atol=2e-4)
    assert len(history.epoch) == 6
    assert history.history["learning_rate"] == takes.rates[9::10]


@pytest.mark.slow
@pytest.mark.parametrize("slow", [0.5, 1.0, 4.0])
def test_however_fast_it_is_a_run_ends_at_the_end_of_its_curve(slow, seconds):
    schedule = Warmup(Cosine(1.0, steps=1.0), steps=0.1)
    takes = Takes(seconds, batch=slow, validation=5.0)
    fit(FitSchedule(schedule, minutes=3), takes, validate=True)
    assert takes.after_all == pytest.approx(180.0, abs=0.6 * slow)
    # Half of the last batch, or one and a half, are left of the curve then.
    left = (1.0 - np.cos(np.pi * 1.5 * slow / (0.9 * 175))) / 2
    assert 0 < takes.rates[-1] <= left
    assert max(takes.rates) == pytest.approx(1.0, abs=0.02)


def test_the_curve_never_goes_back(seconds):
    class Varying(Takes):
        def on_test_begin(self, logs=None):
            self.validation = 40.0 if self.validation == 1.0 else 1.0

    takes = Varying(seconds, batch=1.0)
    fit(FitSchedule(Linear(1.0, steps=1.0), minutes=5), takes, validate=True)
    assert (np.diff(takes.rates) <= 0).all() and len(takes.rates) >= 100


def test_too_few_epochs_are_told_by_a_warning(seconds):
    curve = FitSchedule(Linear(1.0, steps=1.0), minutes=1)
    with pytest.warns(UserWarning, match=r"after 50% of its 1 minutes.*more epochs"):
        fit(curve, Takes(seconds, 1.0), epochs=3)


@pytest.mark.parametrize(
    "schedule",
    [
        Cosine(0.1, steps=100),
        Warmup(Cosine(0.1, steps=1.0), steps=100),
        Warmup(Cosine(0.1, steps=100), steps=0.1),
        Sequential([0.1, 0.2], [100]),
        Sequential([0.1, Cosine(0.1, 100)], [0.1]),
        Scale(Cosine(0.1, 100), 2.0),
        WSD(0.1, steps=1.0, warmup=100),
        Cyclical(0.1, 0.2, steps=0.1, kind="exp_range", decay=0.99),
        keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9),
    ],
    # The repr of a schedule of Keras is another one in each process.
    ids=lambda one: repr(one) if isinstance(one, Schedule) else type(one).__name__,
)
def test_a_number_of_steps_has_no_place_in_a_time(schedule):
    with pytest.raises(ValueError, match="lengths are all fractions of the run"):
        FitSchedule(schedule, minutes=1)


@pytest.mark.parametrize(
    "schedule",
    [
        Constant(0.1),
        Warmup(0.1, steps=0.2),
        WSD(0.1, steps=1.0, warmup=0),
        Sequential([0.1, Cosine(0.1, 1.0)], [0.1]),
        Exponential(0.1, 0.1, 0.5),
    ],
    ids=repr,
)
def test_fractions_have(schedule):
    assert FitSchedule(schedule, minutes=1).minutes == 1


@pytest.mark.parametrize("other", ["total_steps", "epochs"])
def test_a_run_has_one_length(other):
    with pytest.raises(ValueError, match="Give one of them"):
        FitSchedule(Cosine(0.1, steps=1.0), minutes=1, **{other: 10})


def test_a_time_is_greater_than_zero():
    with pytest.raises(ValueError, match=r"`minutes` must be .* greater than 0"):
        TimeStopping(minutes=0)
    with pytest.raises(ValueError, match=r"`minutes` must be .* greater than 0"):
        FitSchedule(Cosine(0.1, steps=1.0), minutes=-1)


@pytest.mark.slow
def test_a_run_by_the_clock_on_the_wall():
    rates = []
    look = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: rates.append(logs["learning_rate"])
    )
    begin = time.perf_counter()
    fit(
        look,
        FitSchedule(Linear(1e-3, steps=1.0), minutes=0.25),
        epochs=100_000,
        validate=True,
    )
    # With the making of the model and what it takes to begin and to return.
    assert time.perf_counter() - begin == pytest.approx(15.0, rel=0.05)
    assert rates[-1] < 0.02 * 1e-3


class Writes(keras.callbacks.Callback):
    """A checkpoint that takes its time at the end of each epoch."""

    def __init__(self, takes, seconds):
        super().__init__()
        self.takes, self.seconds = takes, seconds

    def on_epoch_end(self, epoch, logs=None):
        self.takes.seconds.now += self.seconds


@pytest.mark.parametrize(("validate", "budget"), [(False, 120), (True, 130)])
def test_what_callbacks_do_after_an_epoch_is_within_the_time(validate, budget, seconds):
    takes = Takes(seconds, batch=1.0, validation=3.0)
    curve = FitSchedule(Linear(1.0, steps=1.0), minutes=budget / 60)
    fit(takes, curve, Writes(takes, 4.0), validate=validate)
    assert takes.after_all == pytest.approx(budget, abs=0.6)
    assert takes.rates[-1] < 0.02


def test_the_first_validation_is_within_the_time_too(seconds):
    # A third of a training step for each of its eight batches, and to trace it.
    def run(x, **options):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile(kopt.SGD(0.01), "mse")
        takes = Takes(seconds, batch=1.0, validation=1.0 / 3.0, first=3.0)
        data = tf.data.Dataset.from_tensors((X[:4], Y[:4])).repeat(1000)
        stopping = TimeStopping(minutes=1)
        callbacks = [takes, stopping]
        model.fit(
            data,
            epochs=1,
            shuffle=False,
            verbose=0,
            callbacks=callbacks,
            validation_data=x,
            **options,
        )
        assert takes.after_all - takes.after_training == pytest.approx(8 / 3)
        # A second less for a step to trace, of which this validation has none.
        assert takes.after_all == pytest.approx(59.0, abs=0.6)

    run(tf.data.Dataset.from_tensors((X[:4], Y[:4])).repeat(8))
    run((X[:32], Y[:32]), validation_batch_size=4)
    run(tf.data.Dataset.from_tensors((X[:4], Y[:4])).repeat(), validation_steps=8)


def test_the_last_epoch_may_be_one_without_validation(seconds):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(kopt.SGD(0.01), "mse")
    takes, stopping = Takes(seconds, batch=1.0, validation=10.0), TimeStopping(0.75)
    # The second epoch ends after 30 seconds with a validation; the third has none.
    model.fit(
        X,
        Y,
        4,
        epochs=9,
        verbose=0,
        callbacks=[takes, stopping],
        validation_data=(X[:4], Y[:4]),
        validation_freq=[2, 9],
    )
    assert takes.after_all == pytest.approx(45.0, abs=0.6)
    assert len(takes.rates) == 35
