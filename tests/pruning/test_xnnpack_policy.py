"""Which models XNNPACK's sparse kernels serve; TF-MOT has the same policy."""

import keras
import pytest

from kopt import pruning
from kopt.pruning import PruneForLatencyOnXNNPack, prune_low_magnitude
from tests.peer.tfmot import tf_keras, tfmot


def chain(library, *inside, padding=1, strides=2, end=True):
    """The layers that sparse kernels begin and end with, around some others."""
    layers = library.layers
    return library.Sequential(
        [
            library.Input((32, 32, 3)),
            layers.ZeroPadding2D(padding),
            layers.Conv2D(8, 3, strides=strides, name="first"),
            *(make(layers) for make in inside),
            layers.Conv2D(16, 1, name="pointwise"),
            layers.GlobalAveragePooling2D(keepdims=True) if end else layers.Flatten(),
            layers.Dense(4),
        ]
    )


SUPPORTED = {
    "batch normalization": lambda layers: layers.BatchNormalization(),
    "ReLU": lambda layers: layers.ReLU(6.0),
    "sigmoid": lambda layers: layers.Activation("sigmoid"),
    "depthwise, same": lambda layers: layers.DepthwiseConv2D(3, padding="same"),
    "depthwise 5 x 5, same": lambda layers: layers.DepthwiseConv2D(5, padding="same"),
    "bilinear": lambda layers: layers.UpSampling2D(interpolation="bilinear"),
    "dropout": lambda layers: layers.Dropout(0.1),
}
UNSUPPORTED = {
    "3 x 3": lambda layers: layers.Conv2D(8, 3),
    "strides": lambda layers: layers.Conv2D(8, 1, strides=2),
    "tanh": lambda layers: layers.Activation("tanh"),
    "max pooling": lambda layers: layers.MaxPooling2D(),
    "nearest": lambda layers: layers.UpSampling2D(),
    "depthwise without padding": lambda layers: layers.DepthwiseConv2D(3),
    "depthwise with strides": lambda layers: layers.DepthwiseConv2D(
        3, strides=2, padding="same"
    ),
    "two of each channel": lambda layers: layers.DepthwiseConv2D(
        3, padding="same", depth_multiplier=2
    ),
}


def pruned(model):
    prune_low_magnitude(model, pruning_policy=PruneForLatencyOnXNNPack())
    report = pruning.sparsity_report(model)
    return [weight.path.split("/")[-2] for weight in report.weights if weight.pruned]


@pytest.mark.parametrize("name", SUPPORTED)
def test_layers_with_a_sparse_kernel_may_be_inside(name):
    assert pruned(chain(keras, SUPPORTED[name])) == ["pointwise"]


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_a_layer_without_a_sparse_kernel_is_named(name):
    model = chain(keras, UNSUPPORTED[name])
    with pytest.raises(ValueError, match=f"{model.layers[2].name!r} .* has no sparse"):
        pruned(model)


@pytest.mark.parametrize("arguments", [dict(padding=2), dict(strides=1)])
def test_a_model_that_begins_otherwise_is_refused(arguments):
    with pytest.raises(ValueError, match="begin behind a ZeroPadding2D"):
        pruned(chain(keras, **arguments))


def test_a_model_that_ends_otherwise_is_refused():
    with pytest.raises(ValueError, match="end in a GlobalAveragePooling2D"):
        pruned(chain(keras, end=False))


def test_branches_are_followed_and_all_of_them():
    layers = keras.layers

    def branched(inside):
        inputs = keras.Input((32, 32, 3))
        x = layers.Conv2D(8, 3, strides=2)(layers.ZeroPadding2D(1)(inputs))
        branch = inside(layers.Conv2D(8, 1, name="branch")(x))
        x = layers.GlobalAveragePooling2D()(x + branch)
        return keras.Model(inputs, layers.Dense(2)(x))

    assert pruned(branched(layers.ReLU())) == ["branch"]
    with pytest.raises(ValueError, match="Softmax"):
        pruned(branched(layers.Softmax()))


def test_a_padded_depthwise_convolution_may_have_strides():
    layers = keras.layers
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(8, 3, strides=2)(layers.ZeroPadding2D(1)(inputs))
    x = layers.DepthwiseConv2D(3, strides=2)(layers.ZeroPadding2D(1)(x))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1, name="last")(x))
    assert pruned(keras.Model(inputs, x)) == ["last"]


def test_a_subclassed_model_is_refused():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, inputs):
            return self.dense(inputs)

    model = Model()
    model(keras.ops.ones((1, 3)))
    with pytest.raises(ValueError, match="graph of a functional or sequential model"):
        pruned(model)


@pytest.mark.peer
@pytest.mark.slow
@pytest.mark.parametrize("name", [*SUPPORTED, *UNSUPPORTED])
def test_their_policy_takes_and_refuses_the_same(name):
    inside = {**SUPPORTED, **UNSUPPORTED}[name]
    policy = tfmot().sparsity.keras.PruneForLatencyOnXNNPack()
    model = chain(tf_keras(), inside)
    if name in UNSUPPORTED:
        with pytest.raises(ValueError, match="is not supported"):
            policy.ensure_model_supports_pruning(model)
        return
    policy.ensure_model_supports_pruning(model)
    allowed = [layer.name for layer in model.layers if policy.allow_pruning(layer)]
    assert allowed == ["pointwise"]
