import random

import keras
import matplotlib.pyplot as pyplot
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt.callbacks import LRFinder
from kopt.schedules import Cosine

X = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
Y = (X @ np.array([[1.0], [-2.0], [0.5], [3.0]])).astype("float32")


class Noise(keras.layers.Layer):
    """Draws from Keras's global seed generator."""

    def call(self, inputs, training=False):
        if not training:
            return inputs
        return inputs + 0.1 * keras.random.normal(keras.ops.shape(inputs))


def linear_model(optimizer="sgd", **compile_arguments):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer, loss="mse", **compile_arguments)
    return model


def stateful_model(optimizer=None, **compile_arguments):
    """A model with every kind of state."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, "relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3),
            Noise(),
            kopt.layers.DropPath(0.2),
            keras.layers.Dense(1),
        ]
    )
    optimizer = optimizer or keras.optimizers.Adam(0.01)
    model.compile(optimizer, "mse", metrics=["mae"], **compile_arguments)
    return model


def fit(model, callbacks=(), epochs=50, **arguments):
    inputs = {"x": X, "y": Y, "batch_size": 8} if "x" not in arguments else {}
    return model.fit(
        **inputs,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
        **arguments,
    )


def sweep(model, finder=None, **arguments):
    finder = finder or LRFinder(steps=20)
    fit(model, [finder], **arguments)
    return finder


def state(model):
    variables = [
        *model.variables,
        *model.optimizer.variables,
        *model.metrics_variables,
    ]
    arrays = [np.array(variable.numpy()) for variable in variables]
    return [*arrays, np.array(random.getstate()[1]), np.random.get_state()[1]]


def assert_same(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


class FailAt(keras.callbacks.Callback):
    def __init__(self, batch):
        super().__init__()
        self.batches = batch

    def on_train_batch_end(self, batch, logs=None):
        self.batches -= 1
        if self.batches == 0:
            raise RuntimeError("from a callback")


def test_rates_are_the_same_factor_apart_from_start_to_end():
    finder = LRFinder(1e-6, 1e-2, steps=41)
    sweep(linear_model(), finder)
    assert finder.learning_rates[0] == 1e-6 and finder.learning_rates[-1] == 1e-2
    ratios = finder.learning_rates[1:] / finder.learning_rates[:-1]
    np.testing.assert_allclose(ratios, 10 ** (4 / 40))


def test_losses_are_those_of_single_batches_trained_at_these_rates():
    keras.utils.set_random_seed(1)
    finder = sweep(linear_model())
    keras.utils.set_random_seed(1)
    model = linear_model()
    losses = []
    for place, rate in enumerate(finder.learning_rates):
        model.optimizer.learning_rate = rate
        batch = slice(place % 5 * 8, place % 5 * 8 + 8)
        model.reset_metrics()
        logs = model.train_on_batch(X[batch], Y[batch], return_dict=True)
        losses.append(logs["loss"])
    np.testing.assert_allclose(finder.losses, losses, rtol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"jit_compile": True},
        {"steps_per_execution": 3},
        {"optimizer": keras.optimizers.SGD(0.01, momentum=0.9, use_ema=True)},
        {
            "optimizer": keras.optimizers.LossScaleOptimizer(
                keras.optimizers.Adam(0.01, gradient_accumulation_steps=2)
            )
        },
        {"optimizer": kopt.AdamW(0.01, weight_decay=0.01)},
    ],
    ids=["plain", "xla", "executions", "average", "loss-scale", "kopt"],
)
def test_everything_is_put_back_bit_for_bit(arguments):
    model = stateful_model(**arguments)
    fit(model, epochs=2)
    before = state(model)
    finder = sweep(model)
    assert len(finder.losses) > 10
    assert_same(state(model), before)


def test_all_replicas_are_put_back(two_replicas):
    with two_replicas.scope():
        model = linear_model(keras.optimizers.Adam())
    fit(model, epochs=1)
    before = state(model)
    sweep(model, LRFinder(steps=10))
    assert_same(state(model), before)


def test_training_after_a_sweep_is_training_without_one():
    model = stateful_model()
    fit(model, epochs=2)
    without = stateful_model()
    fit(without, epochs=1)
    swept = stateful_model()
    fit(swept, epochs=1)
    sweep(swept)
    for half in (without, swept):
        fit(half, epochs=1)
    assert_same(state(swept), state(without))
    assert_same(state(swept), state(model))


def test_a_new_model_is_put_back_to_its_first_step():
    model = linear_model(keras.optimizers.Adam())
    sweep(model)
    assert int(model.optimizer.iterations) == 0
    slots = [v for v in model.optimizer.variables if v.name != "learning_rate"]
    assert all(not v.numpy().any() for v in slots)


@pytest.mark.parametrize("raised", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_sweep_puts_everything_back(raised):
    class Failing(keras.Sequential):
        batches = None

        def make_train_function(self, force=False):
            super().make_train_function(force)
            own = self.train_function

            def train_function(iterator):
                if self.batches is not None:
                    self.batches += 1
                    if self.batches == 7:
                        raise raised
                return own(iterator)

            self.train_function = train_function

    model = Failing(stateful_model().layers)
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
    fit(model, epochs=2)
    before = state(model)
    model.batches = 0
    with pytest.raises(raised):
        sweep(model)
    assert_same(state(model), before)


def test_broken_data_put_everything_back():
    model = stateful_model()
    fit(model, epochs=1)
    before = state(model)

    def checked(x, y):
        with tf.control_dependencies([tf.debugging.assert_less(y, 100.0)]):
            return tf.identity(x), y

    targets = np.where(np.arange(40)[:, None] < 30, Y, 1000.0)
    data = tf.data.Dataset.from_tensor_slices((X, targets)).map(checked).batch(2)
    finder = LRFinder(end=1e-3, steps=20)
    with pytest.raises(tf.errors.InvalidArgumentError):
        sweep(model, finder, x=data)
    assert len(finder.losses) == 15
    assert_same(state(model), before)


def test_restore_puts_everything_back_after_another_callback_failed():
    model = stateful_model()
    fit(model, epochs=1)
    own, before = model.train_function, state(model)
    finder = LRFinder(steps=40)
    with pytest.raises(RuntimeError, match="from a callback"):
        fit(model, [finder, FailAt(5)])
    finder.restore()
    assert_same(state(model), before)
    assert model.train_function is own
    fit(model, epochs=1)
    after = state(model)
    finder.restore()  # nothing left to do
    assert_same(state(model), after)


def test_validation_and_checkpoints_see_the_model_as_it_was(tmp_path):
    model = stateful_model()
    fit(model, epochs=1)
    wanted = model.evaluate(X, Y, verbose=0)[0]
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras")
    history = fit(
        model, [LRFinder(steps=10), checkpoint], validation_data=(X, Y)
    ).history
    assert history["val_loss"][-1] == pytest.approx(wanted, rel=1e-6)
    saved = keras.saving.load_model(
        tmp_path / "best.keras", custom_objects={"Noise": Noise}
    )
    assert_same([w.numpy() for w in saved.weights], [w.numpy() for w in model.weights])


def test_fit_ends_with_the_sweep():
    model = linear_model()
    history = fit(model, [LRFinder(1e-6, 1e-2, steps=12)], epochs=100)
    assert history.epoch == [0, 1, 2]


def test_a_loss_that_grows_ends_the_sweep():
    finder = sweep(linear_model(), LRFinder(end=1e6, steps=100))
    assert 10 < len(finder.losses) < 100
    assert finder.learning_rates[-1] < 100


def test_a_lucky_first_batch_does_not_end_the_sweep():
    first = np.where(np.arange(40)[:, None] < 8, 1e-3, 1.0).astype("float32")
    finder = LRFinder(end=1e-4, steps=20)
    data = tf.data.Dataset.from_tensor_slices((X * first, Y * first)).batch(8)
    sweep(linear_model(), finder, x=data)
    assert finder.losses[0] < 1e-3 * finder.losses[1]
    assert len(finder.losses) == 20


def test_a_loss_that_is_not_finite_ends_the_sweep_without_an_error():
    model = linear_model()
    before = state(model)
    finder = LRFinder(1e-2, 1e30, steps=20, divergence=1e300)
    sweep(model, finder)
    assert len(finder.losses) < 20
    assert np.isfinite(finder.losses).all()
    assert_same(state(model), before)


def test_suggestions_are_below_what_a_quadratic_loss_can_bear():
    # Gradient descent on mean((X w - y)^2) diverges above 2 / (largest eigenvalue of
    # its Hessian), and takes longer than a run below a thousandth of that.
    limit = 2 / np.linalg.eigvalsh(2 / len(X) * X.T @ X).max()
    finder = LRFinder()
    data = tf.data.Dataset.from_tensors((X, Y)).repeat(100)
    sweep(linear_model(), finder, x=data, epochs=1)
    for rate in (finder.suggestion, finder.valley, finder.steepest):
        assert limit / 1000 < rate < limit


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [kopt.SGD(0.1, momentum=0.9), kopt.Adam(1e-4)])
def test_the_suggestion_trains_better_than_rates_far_from_it(optimizer):
    def loss_at(rate):
        model = linear_model(type(optimizer).from_config(optimizer.get_config()))
        model.optimizer.learning_rate = rate
        return fit(model, epochs=20).history["loss"][-1]

    rate = sweep(linear_model(optimizer), LRFinder()).suggestion
    assert loss_at(rate) < loss_at(rate / 30)
    assert not loss_at(rate) > loss_at(rate * 100)


def test_epochs_too_few_for_the_sweep_are_an_error_that_says_how_many():
    with pytest.raises(ValueError, match="`epochs=8`"):
        fit(linear_model(), [LRFinder(steps=40)], epochs=7)
    sweep(linear_model(), LRFinder(steps=40), epochs=8)


def test_epochs_are_counted_in_executions():
    model = linear_model(steps_per_execution=2)  # three an epoch
    with pytest.raises(ValueError, match="`epochs=14`"):
        fit(model, [LRFinder(steps=40)], epochs=13)
    assert len(sweep(model, LRFinder(1e-7, 1e-3, steps=40), epochs=14).losses) == 40


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_a_sweep_that_could_not_be_finished_warns():
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8).filter(lambda x, y: True)
    with pytest.warns(UserWarning, match="after 10 of 20 learning rates"):
        sweep(linear_model(), x=data, epochs=2)


def test_an_optimizer_with_a_schedule_of_its_own_is_an_error():
    model = linear_model(keras.optimizers.SGD(Cosine(0.1, steps=10)))
    with pytest.raises(ValueError, match=r"schedule of its own.*Compile with a float"):
        sweep(model)


def test_a_model_that_is_not_built_is_an_error_that_says_how_to_build_it():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"must be a built model.*`Input`"):
        sweep(model)


def test_a_training_step_without_a_loss_is_an_error_and_changes_nothing():
    class Silent(keras.Sequential):
        def train_step(self, data):
            super().train_step(data)
            return {"accuracy": 1.0}

    model = Silent([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    before = state(model)
    with pytest.raises(ValueError, match=r"no 'loss'.*\['accuracy'\]"):
        sweep(model)
    assert_same(state(model), before)


def test_there_is_no_suggestion_before_a_sweep():
    with pytest.raises(ValueError, match="Pass this callback to `fit` first"):
        _ = LRFinder().suggestion


def test_there_is_no_suggestion_where_the_loss_never_fell():
    finder = LRFinder(steps=20)
    finder.learning_rates = np.geomspace(1e-3, 10, 20)
    finder.losses = np.linspace(1, 2, 20)
    for name in ("suggestion", "valley", "steepest"):
        with pytest.raises(ValueError, match="never fell"):
            getattr(finder, name)


def test_the_plot_shows_the_losses_and_the_three_rates():
    finder = sweep(linear_model(), LRFinder())
    axes = finder.plot()
    assert axes.get_xscale() == "log"
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), finder.losses)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    for name in ("suggestion", "valley", "steepest"):
        assert f"{name} {getattr(finder, name):.1e}" in labels
    # The minimum is in the picture, the explosion at the end is not.
    low, high = axes.get_ylim()
    assert low < finder.losses.min() < high < finder.losses.max()
    pyplot.close(axes.figure)


def test_the_plot_goes_into_the_axes_it_is_given():
    figure, axes = pyplot.subplots()
    assert sweep(linear_model(), LRFinder()).plot(ax=axes) is axes
    pyplot.close(figure)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"start": 0.0}, ValueError),
        ({"start": 1.0, "end": 0.1}, ValueError),
        ({"steps": 9}, ValueError),
        ({"steps": 20.0}, TypeError),
        ({"smoothing": 1.0}, ValueError),
        ({"divergence": 1.0}, ValueError),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_at_once(arguments, error):
    with pytest.raises(error, match=f"`{list(arguments)[-1]}` must be"):
        LRFinder(**arguments)


def test_the_suggestion_lies_half_way_from_the_steepest_fall_to_the_lowest_loss():
    finder = LRFinder()
    finder.learning_rates = np.geomspace(1e-7, 10.0, 100)
    decades = np.log10(finder.learning_rates / 1e-3)
    # Steepest at 1e-3; lowest where the rise is as steep as the fall.
    finder.losses = 2.0 - np.tanh(decades) + np.exp(4.0 * (decades - 2.5))
    lowest = finder.learning_rates[finder.losses.argmin()]
    assert finder.suggestion == pytest.approx(np.sqrt(1e-3 * lowest), rel=0.25)
    assert finder.steepest < finder.suggestion < lowest
