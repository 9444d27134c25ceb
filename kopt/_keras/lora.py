"""Low-rank adapters (LoRA), as `enable_lora` of Keras's layers puts them on.

Keras merges adapters into the kernel where it saves a layer, and has no public way to
do it to a model that goes on: the kernel itself and the list of a layer's variables are
private.
"""

from __future__ import annotations

from typing import Any

import keras

from kopt._keras.layer_tree import with_nested_layers

# By the name of an adapter's weights, the attribute with what they are added to.
_ADAPTED = {"lora_kernel": "_kernel", "lora_embeddings": "_embeddings"}


def adapted_layers(model: Any) -> list[Any]:
    """The layers of a model, at any depth, that have adapters."""
    return [
        layer
        for layer in with_nested_layers(model)
        if getattr(layer, "lora_enabled", False)
    ]


def merge_adapter(layer: Any) -> None:
    """Add an adapter to the kernel that it is for, and take it off the layer."""
    name = next(name for name in _ADAPTED if hasattr(layer, f"{name}_a"))
    pair = [getattr(layer, f"{name}_{side}") for side in "ab"]
    adapted: keras.Variable = getattr(layer, _ADAPTED[name])
    scale = layer.lora_alpha / layer.lora_rank
    delta = scale * keras.ops.matmul(*(one.value for one in pair))
    merged = keras.ops.cast(adapted.value, "float32") + delta
    adapted.assign(keras.ops.cast(merged, adapted.dtype))
    layer._tracker.unlock()
    try:
        for side, variable in zip("ab", pair, strict=True):
            layer._untrack_variable(variable)
            delattr(layer, f"{name}_{side}")
    finally:
        layer._tracker.lock()
    layer.lora_enabled, layer.lora_rank, layer.lora_alpha = False, None, None
    adapted.trainable = True
