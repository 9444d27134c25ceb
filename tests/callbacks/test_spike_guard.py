"""Steps that are bad leave nothing behind."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import kopt
from kopt.callbacks import EvalWeights, FitSchedule, LRFinder, SpikeGuard, _spikes
from kopt.schedules import Constant

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(32, 4)).astype("float32")
Y = X[:, :2] * 2.0
BATCH = 4


def with_bad(places, at=2):
    """The data with batches put in before some, each with one number that is none."""
    x, y = X, Y
    for place in sorted(places, reverse=True):
        batch = GENERATOR.normal(size=(BATCH, 4)).astype("float32")
        batch[at, 1] = np.nan if place % 2 else np.inf
        x = np.insert(x, BATCH * place, batch, axis=0)
        y = np.insert(y, BATCH * place, Y[:BATCH], axis=0)
    return x, y


def network(optimizer, **arguments):
    """A network with statistics, seeds and metrics to be put back."""
    keras.utils.set_random_seed(0)
    parts = [layers.Dense(6), layers.BatchNormalization(), layers.Dropout(0.3)]
    model = keras.Sequential([keras.Input((4,)), *parts, layers.Dense(2)])
    model.compile(optimizer, "mse", metrics=["mae"], **arguments)
    return model


def fit(model, *callbacks, data=(X, Y), **arguments):
    arguments = {"batch_size": BATCH, "verbose": 0, "shuffle": False, **arguments}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="SpikeGuard skipped")
        return model.fit(*data, callbacks=callbacks, **arguments).history


def everything(model):
    """All that training moves, by value."""
    held = [*model.variables, *model.optimizer.variables]
    return [np.array(keras.ops.convert_to_numpy(one)) for one in held]


def assert_same_bits(model, other):
    for one, same in zip(everything(model), everything(other), strict=True):
        np.testing.assert_array_equal(one, same)


OPTIMIZERS = {
    "kopt": lambda: kopt.Adam(0.01),
    "Keras": lambda: keras.optimizers.Adam(0.01),
    "momentum": lambda: kopt.SGD(0.01, momentum=0.9),
    "matrix": lambda: kopt.Muon(0.01),
    "wrapped": lambda: kopt.Lookahead(kopt.Adam(0.01)),
    "wrapped twice": lambda: kopt.WeightAverage(kopt.Lookahead(kopt.SGD(0.01))),
    "schedule-free": lambda: kopt.ScheduleFreeSGD(0.1),
    "averaged": lambda: kopt.Adam(0.01, use_ema=True),
    "accumulating": lambda: kopt.Adam(0.01, gradient_accumulation_steps=3),
    "Keras, accumulating": lambda: keras.optimizers.Adam(
        0.01, gradient_accumulation_steps=3
    ),
    "loss scaling": lambda: keras.optimizers.LossScaleOptimizer(kopt.Adam(0.01)),
    "its own schedule": lambda: kopt.SGD(kopt.schedules.Cosine(0.1, steps=20)),
}


QUICK = ("kopt", "Keras", "wrapped", "Keras, accumulating", "loss scaling")


@pytest.mark.parametrize(
    "name",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in OPTIMIZERS],
)
def test_a_bad_batch_is_as_if_it_had_never_been(name):
    never, met = network(OPTIMIZERS[name]()), network(OPTIMIZERS[name]())
    wanted = fit(never, epochs=2)
    guard = SpikeGuard()
    history = fit(met, guard, data=with_bad([0, 3, 4, 8]), epochs=2)
    assert_same_bits(met, never)
    assert guard.skipped == 8 and history.pop("skipped") == [4, 4]
    assert history == wanted


@pytest.mark.parametrize(
    "arguments",
    [
        {"jit_compile": True},
        {"run_eagerly": True},
        {"steps_per_execution": 2},
        {"steps_per_execution": 20},
    ],
    ids=str,
)
def test_so_it_is_in_every_way_to_run_a_step(arguments):
    never = network(kopt.Adam(0.01), **arguments)
    met = network(kopt.Adam(0.01), **arguments)
    fit(never, SpikeGuard(), epochs=2)
    guard = SpikeGuard()
    fit(met, guard, data=with_bad([0, 3, 8]), epochs=2)
    assert_same_bits(met, never)
    assert guard.skipped == 6


def test_a_guard_that_has_nothing_to_skip_changes_nothing():
    plain, guarded = network(kopt.Adam(0.01)), network(kopt.Adam(0.01))
    wanted = fit(plain, epochs=2)
    guard = SpikeGuard(loss_z=1e6, gradient_z=1e6)
    history = fit(guarded, guard, epochs=2)
    assert_same_bits(plain, guarded)
    assert history.pop("skipped") == [0, 0] and history == wanted
    assert guard.summary() == "SpikeGuard skipped no step."


@pytest.mark.parametrize("optimizer", ["kopt", "Keras", "wrapped", "accumulating"])
def test_a_bad_part_on_one_replica_skips_the_step_on_all(optimizer, two_replicas):
    models = []
    for data in ((X, Y), with_bad([1, 5], at=3)):
        with two_replicas.scope():
            models.append(network(OPTIMIZERS[optimizer]()))
        guard = SpikeGuard()
        fit(models[-1], guard, data=data, epochs=2)
    assert guard.skipped == 4
    assert_same_bits(*models)


def test_two_replicas_see_the_norm_of_the_whole_gradient(two_replicas):
    seen = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
            model.compile(kopt.SGD(0.01), "mse")
        guard = Statistics(gradient_z=50.0, loss_z=50.0)
        fit(model, guard)
        seen.append(guard.statistics)
    np.testing.assert_allclose(*seen, rtol=1e-5)


class Statistics(SpikeGuard):
    """Keeps the means of the run."""

    def on_train_end(self, logs=None):
        self.statistics = self.get_state()["statistics"]
        super().on_train_end(logs)


def test_means_are_those_of_losses_and_gradient_norms():
    model = network(kopt.SGD(0.0))
    model.layers[2].rate = 0.0
    losses, norms = [], []
    for start in range(0, 32, BATCH):
        with tf.GradientTape() as tape:
            predicted = model(X[start : start + BATCH], training=True)
            loss = tf.reduce_mean((predicted - Y[start : start + BATCH]) ** 2)
        found = tape.gradient(loss, model.trainable_variables)
        losses.append(float(loss))
        norms.append(float(tf.linalg.global_norm(found)))
    guard = Statistics(decay=0.999)
    fit(model, guard)
    for found, values in zip(guard.statistics, (losses, norms), strict=True):
        np.testing.assert_allclose(
            found, [8, np.mean(values), np.var(values)], rtol=1e-4
        )


def test_loss_scaling_is_no_part_of_the_norm():
    def statistics(optimizer):
        guard = Statistics()
        fit(network(optimizer), guard)
        return guard.statistics

    scaled = keras.optimizers.LossScaleOptimizer(kopt.SGD(0.01), initial_scale=2.0**10)
    factor = kopt.SGD(0.01, loss_scale_factor=256.0)
    plain = statistics(kopt.SGD(0.01))
    np.testing.assert_allclose(statistics(scaled), plain, rtol=1e-4)
    np.testing.assert_allclose(statistics(factor), plain, rtol=1e-4)


def test_gradients_that_overflow_their_scale_are_left_to_loss_scaling():
    optimizer = keras.optimizers.LossScaleOptimizer(
        kopt.SGD(0.01), initial_scale=2.0**127
    )
    guard = SpikeGuard()
    fit(network(optimizer), guard, data=(X * 1e3, Y * 1e3))
    assert guard.skipped == 0
    assert float(optimizer.dynamic_scale) < 2.0**127


def rising(places, factor):
    x, y = X.copy(), Y.copy()
    for place in places:
        y[BATCH * place : BATCH * (place + 1)] *= factor
    return x, y


@pytest.mark.parametrize(
    ("limit", "reason"),
    [("loss_z", "the loss was a spike"), ("gradient_z", "gradients were a spike")],
)
def test_what_is_far_higher_than_before_is_skipped(limit, reason):
    guard = SpikeGuard(**{limit: 10.0}, warmup=4)
    fit(network(kopt.SGD(0.001)), guard, data=rising([5, 6], 1e3))
    assert [(skip.batch, skip.reason) for skip in guard.skips] == [
        (5, reason),
        (6, reason),
    ]


def test_nothing_is_a_spike_before_there_were_enough_steps():
    guard = SpikeGuard(loss_z=10.0, warmup=6)
    fit(network(kopt.SGD(0.0)), guard, data=rising([5], 1e3))
    assert guard.skipped == 0


def test_a_finite_spike_passes_where_no_limit_was_asked_for():
    guard = SpikeGuard(warmup=2)
    fit(network(kopt.SGD(0.0)), guard, data=rising([5], 1e3))
    assert guard.skipped == 0


def test_the_statistics_of_spikes_equal_a_reference_in_float64():
    values = GENERATOR.normal(5.0, 2.0, size=200)
    decay, statistics = 0.9, tf.zeros(3, tf.float64)
    weights = np.zeros(0)
    for number, value in enumerate(values, start=1):
        new = max(1.0 / number, 1.0 - decay)
        weights = np.append(weights * (1.0 - new), new)
        seen = values[:number]
        mean = np.sum(weights * seen)
        variance = np.sum(weights * (seen - mean) ** 2)
        statistics = _spikes.following(tf.constant(value), statistics, decay)
        np.testing.assert_allclose(statistics, [number, mean, variance], atol=1e-10)
    above = mean + 3.0 * np.sqrt(variance)
    for value, spike in ((above + 1e-6, True), (above - 1e-6, False), (-1e9, False)):
        value = tf.constant(value, tf.float64)
        found = _spikes.is_spike(value, statistics, 3.0, 25)
        assert bool(found) is spike


class Weights(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.begun = []

    def on_epoch_begin(self, epoch, logs=None):
        self.begun.append(everything(self.model))


@pytest.mark.parametrize("restore", [True, False])
def test_too_many_in_a_row_stop_training_and_bring_the_last_good_state_back(restore):
    guard, weights = SpikeGuard(patience=3, restore=restore), Weights()
    model = network(kopt.Adam(0.01))

    class Break(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if (len(weights.begun), batch) == (2, 3):
                kernel = model.layers[-1].kernel
                kernel.assign(kernel * np.nan)

    with pytest.warns(RuntimeWarning, match="3 were in a row, so training was sto"):
        model.fit(
            X,
            Y,
            BATCH,
            epochs=5,
            verbose=0,
            shuffle=False,
            callbacks=[guard, weights, Break()],
        )
    assert guard.stopped and guard.skipped == 3
    assert [skip.batch for skip in guard.skips] == [4, 5, 6]
    if restore:
        count = len(model.trainable_variables)
        for one, other in zip(
            everything(model)[:count], weights.begun[1], strict=False
        ):
            np.testing.assert_array_equal(one, other)
        assert int(model.optimizer.iterations) == 8
    else:
        assert int(model.optimizer.iterations) == 12
        assert np.isnan(model.get_weights()[-2]).all()


def test_good_steps_between_bad_ones_keep_training_going():
    guard = SpikeGuard(patience=2)
    fit(network(kopt.SGD(0.01)), guard, data=with_bad([0, 1, 2, 3]), epochs=2)
    assert guard.skipped == 8 and not guard.stopped


def test_what_was_skipped_is_told_at_the_end():
    model, (x, y) = network(kopt.SGD(0.01)), with_bad([2])
    with pytest.warns(
        RuntimeWarning,
        match=r"skipped 1 steps, the first in epoch 0, batch 2: the loss was not fin",
    ):
        model.fit(x, y, BATCH, verbose=0, shuffle=False, callbacks=[SpikeGuard()])


def test_gradients_can_be_bad_where_the_loss_is_not():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2), layers.Lambda(root)])
    model.compile(kopt.SGD(0.01), "mse")
    model.layers[0].bias.assign([10.0, 10.0])
    x, y = X.copy(), Y.copy()
    x[BATCH : 2 * BATCH] = 0.0
    y[BATCH : 2 * BATCH] = 1.0
    model.layers[0].bias.assign([0.0, 0.0])
    guard = SpikeGuard()
    fit(model, guard, data=(x[BATCH : 2 * BATCH], y[BATCH : 2 * BATCH]))
    assert guard.skips[0].reason == "gradients were not finite"
    assert np.isfinite(model.get_weights()[0]).all()


def root(x):
    return tf.sqrt(tf.abs(x))


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_the_end_of_data_of_unknown_length_is_no_bad_step():
    def trained(data, *guards):
        data = tf.data.Dataset.from_tensor_slices(data).batch(BATCH)
        model = network(kopt.Adam(0.01))
        data = data.filter(lambda x, y: True)
        with warnings.catch_warnings(action="ignore"):
            model.fit(data, epochs=2, verbose=0, shuffle=False, callbacks=guards)
        return model

    guard = SpikeGuard()
    assert_same_bits(trained(with_bad([1]), guard), trained((X, Y)))
    assert guard.skipped == 2


def test_an_embedding_is_guarded_too():
    def trained(tokens, *callbacks):
        keras.utils.set_random_seed(0)
        parts = [layers.Embedding(9, 4), layers.Flatten(), layers.Dense(1)]
        model = keras.Sequential([keras.Input((3,), dtype="int32"), *parts])
        model.compile(kopt.LazyAdam(0.1), "mse")
        y = np.where(tokens[:, :1] == 8, np.nan, 1.0)
        fit(model, *callbacks, data=(tokens, y))
        return model

    tokens = GENERATOR.integers(0, 8, size=(16, 3))
    bad = np.insert(tokens, 4, np.full((4, 3), 8), axis=0)
    guard = SpikeGuard()
    assert_same_bits(trained(bad, guard), trained(tokens))
    assert guard.skipped == 1


def test_it_works_beside_a_curve_and_evaluation_weights():
    def trained(data, *guards):
        model = network(kopt.WeightAverage(kopt.SGD(0.01)))
        others = [EvalWeights(statistics=X, batches=2), FitSchedule(Constant(0.02))]
        return model, fit(
            model, *others, *guards, data=data, epochs=3, validation_data=(X, Y)
        )

    (never, wanted), (met, history) = (
        trained((X, Y)),
        trained(with_bad([2]), SpikeGuard()),
    )
    assert_same_bits(met, never)
    assert history.pop("skipped") == [1, 1, 1] and history == wanted


def test_a_sharpness_aware_model_is_guarded():
    def trained(data, *guards):
        model = kopt.sharpness_aware(network(kopt.SGD(0.01)), rho=0.05)
        fit(model, *guards, data=data)
        return model

    assert_same_bits(trained(with_bad([2]), SpikeGuard()), trained((X, Y)))


class OwnStep(keras.Sequential):
    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x, training=True) - y) ** 2)
        self.move(tape.gradient(loss, self.trainable_variables))
        return {"loss": loss}

    def move(self, gradients):
        self.optimizer.apply(gradients, self.trainable_variables)


class OtherStep(OwnStep):
    def move(self, gradients):
        for weight, gradient in zip(self.trainable_variables, gradients, strict=True):
            weight.assign_sub(0.01 * gradient)


def own(kind):
    keras.utils.set_random_seed(0)
    model = kind([keras.Input((4,)), layers.Dense(2)])
    model.compile(kopt.SGD(0.01), "mse")
    return model


def test_a_step_of_the_users_own_is_guarded_by_its_gradients():
    met, never = own(OwnStep), own(OwnStep)
    fit(met, SpikeGuard(gradient_z=1e3), data=with_bad([1]))
    fit(never)
    assert_same_bits(met, never)


def test_a_step_that_hides_its_loss_or_its_update_is_an_error_in_the_first_batch():
    with pytest.raises(ValueError, match=r"does not hand its loss .* Leave `loss_z`"):
        fit(own(OwnStep), SpikeGuard(loss_z=3.0))
    with pytest.raises(ValueError, match=r"OtherStep does not call `model\.optimizer"):
        fit(own(OtherStep), SpikeGuard())


def test_a_step_that_fails_leaves_the_model_its_own():
    model = own(OwnStep)
    fit(model)
    function = model.train_function

    class Fails(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(model, SpikeGuard(), Fails())
    fit(model)  # A guard that was left behind lets go.
    assert model.train_function is function
    assert "apply" not in vars(model.optimizer) and "train_step" not in vars(model)


def test_counts_and_means_go_on_where_a_backup_had_them():
    model, first = network(kopt.SGD(0.01)), []

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            first.append(guard.get_state())

    class Bring(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            guard.set_state(first[0])

    guard = SpikeGuard()
    fit(model, guard, Keep(), data=with_bad([1, 2]))
    fit(model, guard, Bring(), data=with_bad([3]))
    assert guard.skipped == 3
    assert [skip.batch for skip in guard.skips] == [1, 3, 3]


def test_a_second_guard_is_an_error_at_once():
    model = network(kopt.SGD(0.1))
    with pytest.raises(ValueError, match="Give one of them both limits"):
        fit(model, SpikeGuard(), SpikeGuard(loss_z=9.0))
    assert model.optimizer.iterations == 0


def test_a_sweep_beside_it_is_refused():
    with pytest.raises(ValueError, match="SpikeGuard, which would keep steps"):
        fit(network(kopt.SGD(0.1)), SpikeGuard(), LRFinder(steps=10), epochs=10)


@pytest.mark.parametrize(
    "arguments",
    [
        {"patience": 0},
        {"loss_z": 0.0},
        {"gradient_z": -1.0},
        {"warmup": 1},
        {"decay": 1.0},
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_at_once(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        SpikeGuard(**arguments)
