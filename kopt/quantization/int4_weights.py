"""Four-bit weights, eight-bit activations."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from kopt._registry import register
from kopt.quantization.int8 import Int8


@register("quantization", serializable=False)
@dataclass(frozen=True)
class Int4Weights(Int8):
    """int4 weights, int8 activations: about half the file of `Int8`.

    Kernels of 2D convolutions have 4 bits and a scale per channel, kernels of `Dense`
    4 bits and one scale, as the TFLite converter packs them two to a byte; all other
    weights have 8 bits. With 15 values a weight, training after quantization matters
    more than at 8 bits, and `calibrate` with the method "mse" may help.

    Args:
        momentum: See `Int8`.
        learned_ranges: See `Int8`.
        float_layers: See `Int8`.
        int8_layers: Names of layers whose weights keep 8 bits: often the first one
            and the last. `sensitivity` suggests them.

    References:
        - Krishnamoorthi, 2018, Quantizing deep convolutional networks for efficient
          inference: A whitepaper, arXiv:1806.08342

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> config = kopt.quantization.Int4Weights()
    >>> model = kopt.quantization.quantize_model(model, config)
    >>> report = kopt.quantization.quantization_report(model)
    >>> str(report.layers[0].weights[0])
    'kernel int4 x 1'
    """

    int8_layers: tuple[str, ...] = ()

    def weight_grid(
        self, layer: keras.Layer, attribute: str, channel_axes: tuple[int, ...]
    ) -> tuple[tuple[int, ...], int]:
        if layer.name in self.int8_layers or attribute != "kernel":
            return channel_axes, 8
        if isinstance(layer, keras.layers.Dense):
            return (), 4
        if isinstance(layer, keras.layers.Conv2D):
            return channel_axes, 4
        return channel_axes, 8
