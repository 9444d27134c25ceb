"""The verb that makes low-rank adapters a part of the weights."""

from __future__ import annotations

from typing import TypeVar

import keras

from kopt import _checks
from kopt._keras.compiled import forget_compiled_functions
from kopt._keras.lora import adapted_layers, merge_adapter
from kopt._registry import register

Model = TypeVar("Model", bound=keras.Model)


@register("adapters", serializable=False)
def merge_lora(model: Model) -> Model:
    """Add the low-rank adapters (LoRA) of a model to its weights, and take them off.

    Each kernel becomes `kernel + alpha / rank * a @ b`, as its layer computed it, and
    can be trained again; the model computes the same with fewer weights. Pruning,
    clustering and quantization work on kernels as they are, so they come after it.
    Compile the model again before it trains: an optimizer that was there has state for
    the adapters.

    Args:
        model: A built Keras 3 model with layers on which `enable_lora` was called
            (`Dense`, `EinsumDense`, `Embedding`, convolutions), at any depth. It is
            changed in place; one without adapters comes back as it is.

    Returns:
        `model` itself.

    Raises:
        TypeError: If `model` is not a Keras 3 model.
        ValueError: If it is not built, or a kernel was quantized by Keras
            (`model.quantize`). Nothing is merged then.

    References:
        Hu et al., 2021, "LoRA: Low-Rank Adaptation of Large Language Models",
        arXiv:2106.09685.

    Example:

    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> model.layers[0].enable_lora(2)
    >>> len(model.weights), len(kopt.merge_lora(model).weights)
    (4, 2)
    """
    _checks.keras_model("model", model)
    layers = adapted_layers(model)
    quantized = [one.name for one in layers if getattr(one, "quantization_mode", None)]
    if quantized:
        raise ValueError(
            f"Adapters cannot be merged into kernels that Keras quantized "
            f"(`model.quantize`): {', '.join(quantized)}. Merge them before that, or "
            "save and load the model, for which Keras merges them itself."
        )
    for layer in layers:
        merge_adapter(layer)
    if layers:
        forget_compiled_functions(model)
    return model
