"""At most one curve drives a value, any number of factors scale it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt.callbacks import FitSchedule, ReduceOnPlateau
from kopt.schedules import Constant, Cosine, Linear

CALLBACKS = keras.callbacks
X = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
Y = X @ np.ones((3, 2), "float32")


def dense_model(optimizer=None, **arguments):
    keras.utils.set_random_seed(0)
    parts = [kopt.layers.Dropout(0.1), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((3,)), *parts])
    model.compile(optimizer or kopt.SGD(0.1, momentum=0.9), "mse", **arguments)
    return model


def fit(model, callbacks, epochs=3, **arguments):
    arguments = {"verbose": 0, "batch_size": 4, **arguments}
    return model.fit(X, Y, epochs=epochs, callbacks=callbacks, **arguments).history


def curve(**arguments):
    return FitSchedule(Cosine(0.1, steps=1.0), **arguments)


def line(**arguments):
    return FitSchedule(Linear(0.2, steps=1.0), **arguments)


def assert_refused_before_the_first_batch(callbacks, match):
    model = dense_model()
    before = model.get_weights()
    with pytest.raises(ValueError, match=match):
        fit(model, callbacks)
    for weight, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)
    assert model.optimizer.iterations == 0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (curve(), line()),
        (line(), curve(target=lambda m: m.optimizer.learning_rate, name="rate")),
        (
            curve(target="*/rate"),
            line(target=lambda m: [m.layers[0]._rate], name="dropout"),
        ),
    ],
    ids=["by name", "by function", "of a layer"],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_two_curves_on_one_target_are_an_error_that_names_both(first, second, swapped):
    callbacks = [second, first] if swapped else [first, second]
    both = r"Two curves drive .*FitSchedule\({0}.*FitSchedule\({1}"
    names = [type(callback.schedule).__name__ for callback in callbacks]
    assert_refused_before_the_first_batch(callbacks, both.format(*names))


def test_the_same_curve_twice_is_an_error():
    both = curve()
    assert_refused_before_the_first_batch([both, both], "Two curves drive")


def test_a_second_curve_is_found_inside_of_lists():
    nested = CALLBACKS.CallbackList([line()])
    assert_refused_before_the_first_batch([nested, curve()], "Two curves drive")


KERAS = {
    "ReduceLROnPlateau": (
        lambda: CALLBACKS.ReduceLROnPlateau("loss"),
        r"Use kopt\.callbacks\.ReduceOnPlateau in its place",
    ),
    "LearningRateScheduler": (
        lambda: CALLBACKS.LearningRateScheduler(lambda epoch: 0.1),
        r"kopt\.schedules\.Sequential",
    ),
}


@pytest.mark.parametrize("name", KERAS)
@pytest.mark.parametrize("first", [False, True])
def test_a_callback_of_keras_beside_a_curve_is_an_error_with_the_way_out(name, first):
    make, instead = KERAS[name]
    callbacks = [make(), curve()] if first else [curve(), make()]
    match = f"{name} cannot run beside FitSchedule.*{instead}"
    assert_refused_before_the_first_batch(callbacks, match)


@pytest.mark.parametrize("name", KERAS)
def test_they_may_run_beside_the_curve_of_something_else(name):
    make, _ = KERAS[name]
    history = fit(dense_model(), [make(), curve(target="momentum")])
    assert {"learning_rate", "momentum"} <= set(history)


def test_a_scheduler_of_keras_would_undo_what_a_plateau_cut():
    callbacks = [KERAS["LearningRateScheduler"][0](), ReduceOnPlateau("loss")]
    assert_refused_before_the_first_batch(
        callbacks, "LearningRateScheduler cannot run beside ReduceOnPlateau"
    )


def test_two_plateaus_may_cut_the_same_rate():
    def plateau(factor):
        # The loss falls, but by less than is asked for.
        return ReduceOnPlateau("loss", factor=factor, patience=1, min_delta=1e3)

    model = dense_model()
    fit(model, [plateau(0.5), plateau(0.25)])
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1 * 0.125**2)


class Batches(CALLBACKS.Callback):
    """What stands in the logs of each batch, and in the optimizer."""

    def __init__(self, name, attribute):
        super().__init__()
        self.name, self.attribute = name, attribute
        self.logged, self.held = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.logged.append(logs[self.name])
        self.held.append(float(getattr(self.model.optimizer, self.attribute)))


@pytest.mark.parametrize("target", ["learning_rate", "momentum"])
def test_what_is_driven_is_in_the_logs_of_every_callback(target):
    early = Batches(target, target)
    epochs = CALLBACKS.LambdaCallback(
        on_epoch_end=lambda epoch, logs: ends.append(logs[target])
    )
    ends = []
    history = fit(dense_model(), [early, epochs, line(target=target)])
    wanted = [0.2 * (1 - step / 12) for step in range(12)]
    np.testing.assert_allclose(early.logged, wanted, rtol=1e-6)
    np.testing.assert_allclose(early.held, wanted, rtol=1e-6)
    assert history[target] == ends == early.logged[3::4]


def test_the_progress_bar_shows_what_is_driven(capsys):
    fit(dense_model(), [line(target="momentum")], epochs=1, verbose=1)
    shown = capsys.readouterr().out
    assert "momentum: 0.2000" in shown  # during the epoch
    assert "momentum: 0.0500" in shown  # at its end


@pytest.mark.parametrize("first", [False, True])
def test_tensorboard_draws_what_is_driven(first, tmp_path):
    board = CALLBACKS.TensorBoard(tmp_path, write_graph=False)
    callbacks = [board, line(target="momentum")]
    fit(dense_model(), callbacks[::-1] if first else callbacks)
    drawn = {}
    for path in (tmp_path / "train").glob("events.*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                array = tf.make_ndarray(value.tensor)
                drawn.setdefault(value.tag, []).append(float(array))
    wanted = [0.2 * (1 - step / 12) for step in (3, 7, 11)]
    np.testing.assert_allclose(drawn["epoch_momentum"], wanted, rtol=1e-6)


@pytest.mark.parametrize("known", [True, False])
def test_a_curve_in_a_list_of_the_users_own_knows_the_run(known):
    def rates(make):
        model, seen = dense_model(), Batches("learning_rate", "learning_rate")
        model.fit(X, Y, 4, epochs=3, verbose=0, callbacks=make(model, [line(), seen]))
        return seen.held

    params = {"epochs": 3, "steps": 4, "verbose": 0} if known else {}
    own = rates(lambda m, all: CALLBACKS.CallbackList(all, True, model=m, **params))
    assert own == rates(lambda model, callbacks: callbacks)


def test_a_list_without_a_model_says_how_to_give_it_one():
    with pytest.raises(ValueError, match=r"CallbackList\(callbacks, model=model\)"):
        dense_model().fit(X, Y, callbacks=CALLBACKS.CallbackList([line()]))


def test_an_optimizer_with_a_schedule_of_keras_says_how_to_hand_it_over():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 12)
    model = dense_model(keras.optimizers.SGD(schedule))
    with pytest.raises(ValueError, match=r"FitSchedule\(schedule\)`, which takes"):
        fit(model, [line()])
    model = dense_model(keras.optimizers.SGD(0.1))
    seen = Batches("learning_rate", "learning_rate")
    fit(model, [FitSchedule(schedule), seen])
    wanted = [float(schedule(step)) for step in range(12)]
    np.testing.assert_allclose(seen.held, wanted, rtol=1e-6)


def test_a_curve_leaves_keras_free_to_run_ahead():
    # With a callback that it has to wait for, Keras synchronizes after each batch.
    assert curve().async_safe and ReduceOnPlateau("loss").async_safe
    assert not ReduceOnPlateau("loss", every=4).async_safe


def test_a_constant_curve_is_a_rate_in_the_history():
    history = fit(dense_model(), [FitSchedule(Constant(0.025))])
    np.testing.assert_allclose(history["learning_rate"], [0.025] * 3)
