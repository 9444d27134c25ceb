"""Real architectures lose half of their filters and compute what they did."""

import keras
import numpy as np
import pytest

from kopt import evaluation, pruning
from tests.pruning.channel_nets import layers, same_outputs
from tests.pruning.nets import at_once
from tests.sampling import sampled

pytestmark = pytest.mark.slow


def with_statistics(model):
    """Let normalizations do something, as they do in a trained model."""
    random = np.random.default_rng(2)
    for variable in model.weights:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
        elif variable.name in ("beta", "moving_mean", "bias"):
            variable.assign(0.1 * random.normal(size=variable.shape))
    return model


@pytest.mark.parametrize(
    "name", sampled(["DenseNet121", "MobileNetV2", "ResNet50"], ["MobileNetV2"])
)
def test_half_of_the_filters_of_an_application_go(name):
    build = getattr(keras.applications, name)
    options = dict(weights=None, input_shape=(32, 32, 3), classes=10)
    model = with_statistics(build(**options, classifier_activation=None))
    pruning.prune_low_magnitude(model, at_once(), structure="filters")
    smaller = pruning.remove_filters(model)
    same_outputs(model, smaller)
    before, after = (evaluation.measure(m, runs=1) for m in (model, smaller))
    # Half of the inputs and half of the outputs of nearly every kernel.
    assert after.parameters < 0.3 * before.parameters
    assert after.flops < 0.3 * before.flops


def test_a_vision_transformer_loses_heads_and_hidden_units():
    inputs = keras.Input((32, 32, 3))
    x = layers.Reshape((64, 32))(layers.Conv2D(32, 4, 4, name="patches")(inputs))
    for _ in range(3):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(4, 8)(y, y)
        y = layers.Dense(64, activation="gelu")(layers.LayerNormalization()(x))
        x = x + layers.Dense(32)(layers.Dropout(0.1)(y))
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    model = with_statistics(keras.Model(inputs, layers.Dense(10)(x)))
    pruning.prune_low_magnitude(model, at_once(), structure="heads")
    pruning.prune_low_magnitude(model, at_once(), structure="filters")
    smaller = pruning.remove_filters(model)
    same_outputs(model, smaller)
    blocks = 3 * (4 * 32 * 32 + 3 * 32 + 2 * 32 * 64 + 64)
    assert model.count_params() - smaller.count_params() == blocks // 2
