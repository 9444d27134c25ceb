"""Eight-bit weights and activations."""

from __future__ import annotations

from dataclasses import dataclass

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

    Raises:
        ValueError: If `momentum` is not between 0 and 1.

    References:
        - Jacob et al., 2018, Quantization and Training of Neural Networks for
          Efficient Integer-Arithmetic-Only Inference, arXiv:1712.05877
        - Krishnamoorthi, 2018, Quantizing deep convolutional networks for efficient
          inference: A whitepaper, arXiv:1806.08342

    Example:

    >>> kopt.quantization.Int8(momentum=0.99)
    Int8(momentum=0.99)
    """

    momentum: float = 0.99

    def __post_init__(self) -> None:
        _checks.number("momentum", self.momentum, low=0, high=1)

    @property
    def weight_bits(self) -> int:
        return 8

    @property
    def activation_bits(self) -> int:
        return 8
