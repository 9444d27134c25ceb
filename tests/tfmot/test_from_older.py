"""Models of tf_keras in Keras 3."""

import keras
import pytest
import tensorflow as tf

from kopt import tfmot
from kopt.tfmot._functions_of_tensorflow import FUNCTIONS
from tests.peer.tfmot import tf_keras
from tests.tfmot.nets import (
    assert_same,
    for_several,
    images,
    several_inputs_and_outputs,
    shared_and_nested,
)

FORMULAS = {
    "__operators__.add": lambda x, y: x + y,
    "__operators__.getitem": lambda x, y: x[:, 0, 1:],
    "cast": lambda x, y: tf.cast(x, tf.float16),
    "clip_by_value": lambda x, y: tf.clip_by_value(x, -0.5, 0.5),
    "compat.v1.squeeze": lambda x, y: tf.squeeze(x[:, :1], 1),
    "compat.v1.transpose": lambda x, y: tf.transpose(x, [0, 2, 1]),
    "concat": lambda x, y: tf.concat([x, y], -1),
    "expand_dims": lambda x, y: tf.expand_dims(x, 1),
    "linalg.matmul": lambda x, y: tf.matmul(x, y, transpose_b=True),
    "math.abs": lambda x, y: tf.abs(x),
    "math.add": lambda x, y: tf.add(x, y),
    "math.exp": lambda x, y: tf.exp(x),
    "math.log": lambda x, y: tf.math.log(tf.abs(x)),
    "math.maximum": lambda x, y: tf.maximum(x, y),
    "math.minimum": lambda x, y: tf.minimum(x, y),
    "math.multiply": lambda x, y: x * y,
    "math.negative": lambda x, y: -x,
    "math.pow": lambda x, y: x**2.0,
    "math.reduce_max": lambda x, y: tf.reduce_max(x, 1),
    "math.reduce_mean": lambda x, y: tf.reduce_mean(x, axis=[1, 2], keepdims=True),
    "math.reduce_min": lambda x, y: tf.reduce_min(x, -1),
    "math.reduce_sum": lambda x, y: tf.reduce_sum(x, 1),
    "math.sigmoid": lambda x, y: tf.sigmoid(x),
    "math.sqrt": lambda x, y: tf.sqrt(tf.abs(x)),
    "math.square": lambda x, y: tf.square(x),
    "math.subtract": lambda x, y: 1.0 - x,
    "math.tanh": lambda x, y: tf.tanh(x),
    "math.truediv": lambda x, y: x / 2.0,
    "nn.gelu": lambda x, y: tf.nn.gelu(x),
    "nn.relu": lambda x, y: tf.nn.relu(x),
    "nn.relu6": lambda x, y: tf.nn.relu6(9.0 * x),
    "nn.silu": lambda x, y: tf.nn.silu(x) + tf.nn.silu(y),
    "nn.softmax": lambda x, y: tf.nn.softmax(x, axis=1),
    "reshape": lambda x, y: tf.reshape(x, [-1, 12]),
    "stack": lambda x, y: tf.stack([x, y], axis=2),
}


def chain(*layers, shape=(4,)):
    return tf_keras().Sequential([tf_keras().Input(shape), *layers])


@pytest.mark.parametrize("symbol", FUNCTIONS)
def test_functions_of_tensorflow_become_operations(symbol):
    x, y = tf_keras().Input((3, 4)), tf_keras().Input((3, 4))
    model = tf_keras().Model([x, y], FORMULAS[symbol](x, y))
    assert symbol in [getattr(layer, "symbol", None) for layer in model.layers]
    data = [images(2)[:, :3, :4, 0], images(2)[:, 2:5, 2:6, 1]]
    assert_same(model(data), tfmot.from_tf_keras(model)(data))


def test_a_model_comes_back_as_it_went():
    model = shared_and_nested()
    back = tfmot.from_tf_keras(tfmot.to_tf_keras(model))
    assert_same(model(images()), back(images()))
    kernel = back.get_layer("shared").kernel
    assert back.get_layer("block").get_layer("shared").kernel is kernel
    assert back.get_layer("out").get_config() == model.get_layer("out").get_config()


@pytest.mark.slow
def test_inputs_outputs_and_masks_come_back(tmp_path):
    model = several_inputs_and_outputs()
    back = tfmot.from_tf_keras(tfmot.to_tf_keras(model))
    assert_same(model(for_several()), back(for_several()))
    # A model of Keras 3 like any other.
    back.save(tmp_path / "back.keras")
    loaded = keras.saving.load_model(tmp_path / "back.keras")
    assert_same(model(for_several()), loaded(for_several()))


def test_what_tf_keras_calls_otherwise_is_translated(tmp_path):
    layers = tf_keras().layers
    model = chain(
        layers.Dense(6, activation="hard_sigmoid"),
        layers.LeakyReLU(alpha=0.4),
        layers.ThresholdedReLU(0.1),
        layers.Dense(2, activation=tf.nn.relu6, name="scope/inner"),
    )
    back = tfmot.from_tf_keras(model)
    x = 4 * images(2)[:, 0, :4, 0]
    assert_same(model(x), back(x))
    assert back.layers[-1].name == "scope_inner"
    back.save(tmp_path / "back.keras")
    assert_same(model(x), keras.saving.load_model(tmp_path / "back.keras")(x))
    assert_same(model(x), tfmot.to_tf_keras(back)(x))


def test_all_that_cannot_come_is_named_with_its_reason():
    layers = tf_keras().layers
    x = tf_keras().Input((6, 6, 3))
    y = layers.LocallyConnected2D(2, 3, name="local")(x)
    y = tf.image.rot90(y) if False else tf.math.erf(y)
    y = layers.Dropout(0.5, name="drop")(y, training=True)
    y = layers.Reshape((4, 8))(y)
    y = layers.LSTM(2, time_major=True, return_sequences=True, name="lstm")(y)
    with pytest.raises(tfmot.UnsupportedLayerError) as caught:
        tfmot.from_tf_keras(tf_keras().Model(x, y))
    reasons = caught.value.reasons
    assert set(reasons) == {"local", "lstm"}
    assert "has no layer LocallyConnected2D" in reasons["local"]
    assert "time_major=True" in reasons["lstm"]


def test_calls_that_cannot_come_are_named_with_their_reason():
    x = tf_keras().Input((4,))
    y = tf_keras().layers.Dropout(0.5, name="drop")(tf.math.erf(x), training=True)
    with pytest.raises(tfmot.UnsupportedLayerError) as caught:
        tfmot.from_tf_keras(tf_keras().Model(x, y))
    reasons = caught.value.reasons
    assert len(reasons) == 2
    assert "training=True" in reasons.pop("drop")
    assert "does not know the function tf.math.erf" in reasons.popitem()[1]


def test_a_model_of_keras_3_is_refused_with_the_way_out():
    with pytest.raises(TypeError, match="model of Keras 3 already"):
        tfmot.from_tf_keras(keras.Sequential([keras.Input((2,))]))
    with pytest.raises(TypeError, match=r"Pass a tf_keras\.Model"):
        tfmot.from_tf_keras("model")
    with pytest.raises(ValueError, match="must be a built model"):
        tfmot.from_tf_keras(tf_keras().Sequential([tf_keras().layers.Dense(2)]))
