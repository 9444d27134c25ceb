"""Replicas, each with a part of every batch, follow the ranges of one device."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import kopt
from kopt.quantization import Int8, quantize_model


def start(seed):
    return keras.initializers.GlorotUniform(seed=seed)


def dense():
    return [
        layers.Dense(8, activation="relu", kernel_initializer=start(1)),
        layers.Dense(2, kernel_initializer=start(2)),
    ]


def normalized():
    return [
        layers.Dense(8, use_bias=False, kernel_initializer=start(1)),
        layers.BatchNormalization(synchronized=True),
        layers.ReLU(),
        layers.Dense(2, kernel_initializer=start(2)),
    ]


def recurrent(unroll=True):
    cells = {"kernel_initializer": start(1), "recurrent_initializer": start(3)}
    return [
        layers.Reshape((3, 2)),
        layers.GRU(4, unroll=unroll, **cells),
        layers.Dense(2, kernel_initializer=start(2)),
    ]


def trained(strategy, parts, rows, config=None, **arguments):
    """Weights and ranges after three epochs of quantization-aware training."""
    labels = (rows[:, :3].sum(1) > rows[:, 3:].sum(1)).astype("int32")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with strategy.scope():
        model = keras.Sequential([keras.Input((6,)), *parts()])
        quantize_model(model, *([config] if config else []), calibration_data=rows[:32])
        model.compile(kopt.Adam(1e-2), loss, **arguments)
    model.fit(rows, labels, batch_size=16, epochs=3, shuffle=False, verbose=0)
    for weight in model.weights:
        first, *others = strategy.experimental_local_results(weight.value)
        for other in others:
            np.testing.assert_array_equal(other.numpy(), first.numpy(), weight.path)
    return model.get_weights()


@pytest.mark.parametrize(
    ("parts", "config", "arguments"),
    [
        (dense, None, {}),
        pytest.param(dense, None, {"run_eagerly": True}, marks=pytest.mark.slow),
        pytest.param(dense, Int8(learned_ranges=True), {}, marks=pytest.mark.slow),
        pytest.param(normalized, None, {}, marks=pytest.mark.slow),
        pytest.param(recurrent, None, {}, marks=pytest.mark.slow),
    ],
    ids=["dense", "eager", "learned ranges", "batch normalization", "recurrent"],
)
def test_two_replicas_train_to_the_ranges_of_one_device(
    parts, config, arguments, rows, two_replicas
):
    one, two = (
        trained(strategy, parts, rows, config, **arguments)
        for strategy in (tf.distribute.get_strategy(), two_replicas)
    )
    for expected, found in zip(one, two, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


def test_an_extreme_that_one_replica_alone_sees_moves_the_range_of_both(two_replicas):
    # Weights of one, so that a range holds the extremes of the data themselves.
    rows = np.concatenate([np.full((4, 6), 1.0), np.full((4, 6), 5.0)])
    with two_replicas.scope():
        model = keras.Sequential([keras.Input((6,)), layers.Dense(1)])
        quantize_model(model, calibration_data=rows[:2])
        model.layers[0].quantizer.ranges["input_0"].set_rate(1.0)
        model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(rows, np.zeros((8, 1)), batch_size=8, verbose=0)
    assert float(model.layers[0].quantizer.ranges["input_0"].high.numpy()) == 5.0


def test_a_range_inside_a_loop_says_that_replicas_cannot_meet_there(rows, two_replicas):
    with pytest.raises(RuntimeError, match=r"several replicas.*unroll=True"):
        trained(two_replicas, lambda: recurrent(unroll=False), rows)


def test_a_model_called_outside_of_replicas_follows_the_data_too(rows, two_replicas):
    with two_replicas.scope():
        model = keras.Sequential([keras.Input((6,)), *dense()])
        quantize_model(model, calibration_data=rows[:32])
        followed = model.layers[0].quantizer.ranges["input_0"]
        followed.set_rate(1.0)
        model(100 * rows, training=True)
    np.testing.assert_allclose(followed.high.numpy(), 100 * rows.max(), rtol=1e-6)
