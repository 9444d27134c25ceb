"""Eight-bit weights and activations."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from kopt import _checks
from kopt._registry import register


@register("quantization", serializable=False)
@dataclass(frozen=True)
class Int8:
    """int8 weights on a symmetric grid per channel, int8 activations.

    The scheme of TFLite's full-integer models. A weight of exactly zero stays zero,
    so a pruned model keeps its sparsity.

    Args:
        momentum: How much of an activation's range stays in a training step; the
            rest comes from the batch. The range starts at the calibrated one, so
            the average needs no time to warm up.

        learned_ranges: Whether ranges are trained with the weights, by the gradient
            of the loss, from the calibrated ones on, in the place of the average.
            They are then among the `trainable_variables`: compile anew.
        float_layers: Names of layers that are to stay float. In the model they do;
            TFLite's converter still takes an operation into integers that stands
            between two ranges, as a layer between two quantized ones does. Without
            training, `kopt.export.tflite(float_model, path, "int8", data,
            float_layers=...)` keeps layers float in the file as well.

    Raises:
        ValueError: If `momentum` is not between 0 and 1.

    References:
        - Jacob et al., 2018, Quantization and Training of Neural Networks for
          Efficient Integer-Arithmetic-Only Inference, arXiv:1712.05877
        - Esser et al., 2019, Learned Step Size Quantization, arXiv:1902.08153
        - Krishnamoorthi, 2018, Quantizing deep convolutional networks for efficient
          inference: A whitepaper, arXiv:1806.08342

    Example:

    >>> kopt.quantization.Int8(momentum=0.9)
    Int8(momentum=0.9, learned_ranges=False, float_layers=())
    """

    momentum: float = 0.99
    learned_ranges: bool = False
    float_layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _checks.number("momentum", self.momentum, low=0, high=1)
        _checks.one_of("learned_ranges", self.learned_ranges, (False, True))
        if isinstance(self.float_layers, str):
            raise TypeError(
                "`float_layers` must be a tuple of names. Received: float_layers="
                f"{self.float_layers!r}. Write (name,)."
            )

    def weight_grid(
        self, layer: keras.Layer, attribute: str, channel_axes: tuple[int, ...]
    ) -> tuple[tuple[int, ...], int]:
        """The channel axes and the bits of one weight."""
        return channel_axes, 8

    @property
    def activation_bits(self) -> int:
        return 8
