"""Replicas, each with a part of every batch, train to the weights of one device."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import kopt

GENERATOR = np.random.default_rng(3)
#: Tokens that come up more than once; those from 8 on, in the second half alone.
TOKENS = GENERATOR.integers(0, 8, size=(24, 3))
TOKENS[4:8] += 8
TARGETS = GENERATOR.normal(size=(24, 2)).astype("float32")
ONE = tf.distribute.get_strategy()


def trained(strategy, optimizer, parts=(), dtype="float32", inputs=TOKENS):
    """Weights after two epochs, which are alike on each device."""
    keras.utils.set_random_seed(1)
    keras.config.set_dtype_policy(dtype)
    with strategy.scope():
        table = layers.Embedding(20, 4, name="table")
        model = keras.Sequential([keras.Input((3,), dtype="int32"), table])
        for part in parts:
            model.add(part())
        model.add(layers.Flatten())
        model.add(layers.Dense(2, name="head"))
        model.compile(optimizer(), "mse")
    targets = TARGETS[: len(inputs)]
    model.fit(inputs, targets, batch_size=8, epochs=2, shuffle=False, verbose=0)
    for variable in [*model.weights, *model.optimizer.variables]:
        first, *others = strategy.experimental_local_results(variable.value)
        for other in others:
            # Sums over a whole variable may differ in their last bit.
            values = [tf.cast(copy, "float32") for copy in (first, other)]
            np.testing.assert_allclose(*values, rtol=1e-5, atol=1e-7)
    return [weight.astype("float32") for weight in model.get_weights()]


def assert_replicas_are_one_device(strategy, *arguments, **more):
    expected = trained(ONE, *arguments, **more)
    found = trained(strategy, *arguments, **more)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=2e-6)


def group():
    return [kopt.ParamGroup("table", 0.5, weight_decay=0.0)]


def several():
    flags = {"gradient_accumulation_steps": 2, "use_ema": True, "global_clipnorm": 0.1}
    return kopt.LazyAdam(1e-2, param_groups=group(), **flags)


def around_units():
    flags = {"agc": 0.01, "gradient_centralization": True, "cautious": True}
    return kopt.AdamW(1e-2, sparse="lazy", clipnorm=0.1, **flags)


ON_ROWS = {
    "lazy": lambda: kopt.LazyAdam(1e-2),
    "shortcut": lambda: kopt.SGD(1e-1),
    "groups, averages and accumulation": several,
    "around units": around_units,
    "wrapper": lambda: kopt.Lookahead(kopt.LazyAdam(1e-2), sync_period=2),
    "training point": lambda: kopt.ScheduleFreeAdamW(1e-2, warmup_steps=2),
    "learned scale": lambda: kopt.Mechanic(kopt.LazyAdam(1.0), s_init=1e-3),
    "narrow state": lambda: kopt.LazyAdam(1e-2, state_dtype="bfloat16"),
}


@pytest.mark.parametrize(
    "name",
    [
        "lazy",
        *[pytest.param(n, marks=pytest.mark.slow) for n in ON_ROWS if n != "lazy"],
    ],
)
def test_rows_of_an_embedding_move_on_two_replicas_as_on_one(name, two_replicas):
    assert_replicas_are_one_device(two_replicas, ON_ROWS[name])


@pytest.mark.parametrize("name", ["lazy", "shortcut"])
def test_rows_of_an_embedding_move_on_a_mirrored_single_device(name):
    single = tf.distribute.MirroredStrategy(["CPU:0"])
    assert_replicas_are_one_device(single, ON_ROWS[name])


@pytest.mark.slow
@pytest.mark.parametrize("rounding", ["stochastic", "kahan", None])
def test_rows_in_bfloat16_are_rounded_alike_on_all_devices(rounding, two_replicas):
    def lazy():
        return kopt.LazyAdam(1e-2, bf16_rounding=rounding)

    # `trained` compares the devices. Sums of gradients in bfloat16 differ by rounding.
    one, two = (trained(s, lazy, dtype="bfloat16") for s in (ONE, two_replicas))
    for expected, found in zip(one, two, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=0.02)


def norm():
    return layers.BatchNormalization(synchronized=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "part", [lambda: layers.LSTM(4), lambda: layers.GRU(4, unroll=True), norm]
)
def test_recurrent_and_normalizing_layers_train_on_two_replicas_as_on_one(
    part, two_replicas
):
    def optimizer():
        return kopt.SGD(0.1, momentum=0.9)

    assert_replicas_are_one_device(two_replicas, optimizer, [part])


@pytest.mark.slow
@pytest.mark.parametrize("count", [20, 17])
def test_a_last_batch_that_divides_unevenly_is_as_in_keras(count, two_replicas):
    # Replicas weigh alike, whatever number of samples they got, as Keras has it.
    found = [
        trained(two_replicas, lambda o=o: o(0.1), inputs=TOKENS[:count])
        for o in (kopt.SGD, keras.optimizers.SGD)
    ]
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("wrap", [lambda o: o, kopt.Lookahead])
def test_a_step_outside_of_the_replicas_says_where_it_belongs(wrap, two_replicas):
    with two_replicas.scope():
        variable = keras.Variable([1.0])
        optimizer = wrap(kopt.SGD(0.1))
        optimizer.build([variable])
        with pytest.raises(RuntimeError, match=r"`strategy\.run`"):
            optimizer.apply([tf.ones(1)], [variable])
