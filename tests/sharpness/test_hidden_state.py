"""The second pass starts from the states that the first one started from.

Law: steps of length zero uphill descend as plain training does. Plain training with
Keras's own step is the reference, to the last bit.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from tests.sampling import sampled

layers = keras.layers
X = np.random.default_rng(0).normal(size=(12, 3, 4)).astype("float32")
Y = np.random.default_rng(1).normal(size=(12, 2)).astype("float32")
VARIANTS = {
    "sam": {},
    "asam": {},
    "gsam": {"alpha": 0.0},
    "looksam": {"alpha": 0.0, "period": 2},
}


class Momentum(layers.Layer):
    """Adds a running mean of its inputs, which neither kind of variable shows Keras."""

    def __init__(self, kind):
        super().__init__()
        vars(self)["mean"] = kind(np.zeros(4, "float32"), trainable=False)

    def call(self, x):
        self.mean.assign(0.5 * self.mean + 0.5 * keras.ops.mean(x, axis=(0, 1)))
        return x + tf.convert_to_tensor(self.mean)


class Images(layers.Layer):
    def call(self, x):
        return keras.ops.reshape(x, (4, 3, 2, 2, 1))


def stacked():
    return layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)], stateful=True)


STATEFUL = {
    "SimpleRNN": lambda: [layers.SimpleRNN(3, stateful=True)],
    "LSTM": lambda: [layers.LSTM(3, stateful=True)],
    "GRU": lambda: [layers.GRU(3, stateful=True, dropout=0.5)],
    "Bidirectional": lambda: [layers.Bidirectional(layers.LSTM(3, stateful=True))],
    "nested": lambda: [keras.Sequential([layers.GRU(3, stateful=True)])],
    "ConvLSTM2D": lambda: [
        Images(),
        layers.ConvLSTM2D(2, 2, stateful=True),
        layers.Flatten(),
    ],
    "a variable of Keras": lambda: [Momentum(keras.Variable), layers.Flatten()],
    "a variable of TensorFlow": lambda: [Momentum(tf.Variable), layers.Flatten()],
    "normalization": lambda: [layers.BatchNormalization(), layers.Flatten()],
    "dropout": lambda: [layers.Dropout(0.5), layers.Flatten()],
}


def trained(make, **sharpness):
    keras.utils.set_random_seed(0)
    inputs = keras.Input(batch_shape=(4, 3, 4))
    parts = make()
    model = keras.Sequential([inputs, *parts, layers.Dense(2)])
    if sharpness:
        kopt.sharpness_aware(model, **sharpness)
    model.compile(kopt.SGD(0.1), "mse", jit_compile=False)
    for start in range(0, len(X), 4):
        model.train_on_batch(X[start : start + 4], Y[start : start + 4])
    return [np.array(keras.ops.convert_to_numpy(v)) for v in model.weights]


@pytest.mark.parametrize(
    "kind",
    sampled(
        STATEFUL,
        ["SimpleRNN", "a variable of TensorFlow", "normalization"],
        pytest.mark.slow,
    ),
)
def test_a_step_of_length_zero_is_plain_training(kind):
    plain = trained(STATEFUL[kind])
    aware = trained(STATEFUL[kind], rho=0.0)
    for one, other in zip(plain, aware, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_puts_the_states_back(variant):
    make = STATEFUL["a variable of TensorFlow"]
    plain = trained(make)
    aware = trained(make, variant=variant, rho=0.0, **VARIANTS[variant])
    for one, other in zip(plain, aware, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


def test_states_after_a_step_uphill_are_those_of_the_first_pass():
    model = keras.Sequential(
        [keras.Input(batch_shape=(4, 3, 4)), layers.SimpleRNN(3, stateful=True)]
    )
    expected = model(X[:4]).numpy()
    model.layers[0].reset_states()
    kopt.sharpness_aware(model, rho=1.0)
    model.compile(kopt.SGD(0.1), "mse")
    model.train_on_batch(X[:4], np.zeros((4, 3), "float32"))
    np.testing.assert_allclose(model.layers[0].states[0], expected, rtol=1e-5)
