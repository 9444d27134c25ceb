"""Every family of keras.applications that tf_keras has too."""

import keras
import numpy as np
import pytest

from kopt import tfmot
from kopt.tfmot._layer_classes import layer_class
from tests.peer.tfmot import tf_keras

pytestmark = pytest.mark.peer

# The smallest image that each takes.
SIZES = {
    "ConvNeXtTiny": 32,
    "DenseNet121": 32,
    "EfficientNetB0": 32,
    "EfficientNetV2B0": 32,
    "InceptionResNetV2": 75,
    "InceptionV3": 75,
    "MobileNet": 32,
    "MobileNetV2": 32,
    "MobileNetV3Small": 32,
    "NASNetMobile": 32,
    "ResNet50": 32,
    "ResNet50V2": 32,
    "VGG16": 32,
    "Xception": 71,
}

# The one with operations of `keras.ops` in it; all together they take minutes.
QUICK = ("MobileNetV3Small",)


# Which are no public layers of either Keras.
OWN_LAYERS = ("CustomScaleLayer", "LayerScale", "StochasticDepth")


def kind(name):
    """A stand-in for a class of applications, by which the real ones are found."""
    return type(name, (), {"__module__": "keras.src.applications.some"})


def settings(name):
    shape = (SIZES[name], SIZES[name], 3)
    return dict(weights=None, include_top=False, pooling="avg", input_shape=shape)


def make_different(model):
    """Give all that starts as 0 or 1 values of its own; untrained models hide it."""
    random = np.random.default_rng(0)
    for variable in model.weights:
        part = variable.path.rpartition("/")[2]
        if part in ("gamma", "moving_variance", "variance"):
            variable.assign(random.uniform(0.8, 1.2, variable.shape))
        elif part in ("beta", "bias", "moving_mean", "mean"):
            variable.assign(random.normal(0, 0.05, variable.shape))
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=pytest.mark.slow if name in QUICK else pytest.mark.thorough
        )
        for name in SIZES
    ],
)
def test_a_published_architecture_computes_the_same_in_tf_keras(name):
    # In float64: rounding in another order grows through the many layers in float32.
    keras.config.set_dtype_policy("float64")
    model = getattr(keras.applications, name)(**settings(name))
    keras.config.set_dtype_policy("float32")
    make_different(model)
    twin = tfmot.to_tf_keras(model)
    shape = (1, SIZES[name], SIZES[name], 3)
    x = np.random.default_rng(1).uniform(0, 255, shape)
    expected = model(x, training=False).numpy()
    np.testing.assert_allclose(
        twin(x, training=False), expected, rtol=0, atol=1e-6 * np.abs(expected).max()
    )
    ours = sorted(weights.tobytes() for weights in model.get_weights())
    assert ours == sorted(weights.tobytes() for weights in twin.get_weights())


def test_the_layers_that_applications_define_for_themselves_go_along():
    layer = {name: layer_class(kind(name), older=False) for name in OWN_LAYERS}
    x = keras.Input((6,))
    y = layer["LayerScale"](0.5, 6)(keras.layers.Dense(6)(x))
    y = layer["StochasticDepth"](0.3)(y)
    model = keras.Model(x, layer["CustomScaleLayer"](0.2)([x, y]))
    make_different(model)
    twin = tfmot.to_tf_keras(model)
    x = np.random.default_rng(1).normal(size=(3, 6)).astype("float32")
    expected = model(x).numpy()
    np.testing.assert_allclose(twin(x), expected, atol=1e-6)
    np.testing.assert_allclose(tfmot.from_tf_keras(twin)(x), expected, atol=1e-6)
    assert {*OWN_LAYERS} <= {type(layer).__name__ for layer in twin.layers}


@pytest.mark.slow
def test_weights_go_into_the_one_that_tf_keras_has_of_its_own():
    name = "MobileNetV3Small"
    model = getattr(keras.applications, name)(**settings(name))
    make_different(model)
    theirs = getattr(tf_keras().applications, name)(**settings(name))
    tfmot.copy_weights(model, theirs)
    x = np.random.default_rng(1).uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    expected = model(x, training=False).numpy()
    np.testing.assert_allclose(theirs(x, training=False), expected, atol=1e-6)
    # And back from it, with the names and functions that it has.
    back = tfmot.from_tf_keras(theirs)
    np.testing.assert_allclose(back(x, training=False), expected, atol=1e-6)
