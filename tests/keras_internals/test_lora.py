"""Keras keeps adapters, and what they are added to, under the names it had."""

import keras
import numpy as np
import pytest
from keras import layers

from kopt._keras.lora import adapted_layers, merge_adapter


@pytest.mark.parametrize(
    ("layer", "kernel"),
    [(layers.Dense(3), "_kernel"), (layers.Embedding(4, 3), "_embeddings")],
)
def test_an_adapter_is_found_added_and_gone(layer, kernel):
    model = keras.Sequential([keras.Input((4,)), layer])
    layer.enable_lora(2)
    assert adapted_layers(model) == [layer]
    names = [v for v in layer.weights if "lora" in v.name]
    assert len(names) == 2 and not getattr(layer, kernel).trainable
    for variable in names:
        variable.assign(np.ones(variable.shape))
    before = getattr(layer, kernel).numpy()
    merge_adapter(layer)
    np.testing.assert_allclose(getattr(layer, kernel).numpy(), before + 2, rtol=1e-5)
    assert not adapted_layers(model)
