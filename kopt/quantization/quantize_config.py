"""What a user says about the quantization of one layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from kopt._registry import register


@register("quantization", serializable=False)
class QuantizeConfig(ABC):
    """Which weights and outputs of one layer are quantized, and by what.

    The methods are those of TensorFlow Model Optimization's `QuantizeConfig`, whose
    objects are accepted in its place. A quantizer is any object with
    `build(tensor_shape, name, layer)`, which makes its variables by
    `layer.add_weight(...)` and returns them in a dict, with
    `__call__(inputs, training, weights)`, and `get_config()`. TF-MOT's are.

    Its `set_` methods are not needed: the layer is called with rounded weights.

    Example:

    >>> class OnlyOutputs(kopt.quantization.QuantizeConfig):
    ...     def get_weights_and_quantizers(self, layer):
    ...         return []
    >>> dense = kopt.quantization.quantize_annotate_layer(
    ...     keras.layers.Dense(2), OnlyOutputs()
    ... )
    """

    @abstractmethod
    def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        """Pairs of a weight of the layer and its quantizer."""

    def get_activations_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        """Pairs of an activation of the layer and the quantizer behind it."""
        return []

    def get_output_quantizers(self, layer: Any) -> list[Any]:
        """The quantizers of the layer's outputs."""
        return []

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {}
