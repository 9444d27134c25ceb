"""Orthogonalization of a matrix by a few steps of an odd polynomial."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from keras import ops

from kopt.optimizers import _hardware
from kopt.optimizers._transforms import sum_of_squares

#: From this many rows on, half of a symmetric product is cheaper than the whole.
HALVE_FROM = 512
#: From this many rows and columns on, `"auto"` may be bfloat16: below, products cost
#: little in any dtype.
ROUND_FROM = 512

_STRIPS = 3


def orthogonalized(
    matrix: Any,
    coefficients: Sequence[float] = (3.4445, -4.7750, 2.0315),
    steps: int = 5,
    epsilon: float = 1e-7,
    dtype: str | None = None,
) -> Any:
    """Bring all singular values of a matrix near 1 and keep its singular vectors.

    Each step takes a singular value `s` to `a s + b s^3 + c s^5`. With the default
    coefficients five steps bring every value that is not tiny between 0.7 and 1.2.

    Args:
        matrix: A tensor of rank 2.
        coefficients: a, b and c.
        steps: How many steps.
        epsilon: Added to the norm that the matrix is divided by first.
        dtype: Dtype of the products, `None` for the matrix's own; `"auto"` is bfloat16
            for a large float32 matrix where the hardware multiplies that.
    """
    if dtype == "auto":
        dtype = _automatic_dtype(matrix)
    a, b, c = coefficients
    # The products are of the size of the shorter side.
    tall = matrix.shape[0] > matrix.shape[1]
    x = ops.transpose(matrix) if tall else matrix
    x = x / (ops.sqrt(sum_of_squares(x)) + epsilon)
    x = ops.cast(x, dtype or matrix.dtype)
    for _ in range(steps):
        # A copy: TensorFlow would fold the transposition into the products, which then
        # take half as long again.
        transposed = tf.raw_ops.Snapshot(input=ops.transpose(x))
        square = symmetric_product(x, transposed)
        polynomial = b * square + c * symmetric_product(square, square)
        x = a * x + ops.matmul(polynomial, x)
    x = ops.cast(x, matrix.dtype)
    return ops.transpose(x) if tall else x


def _automatic_dtype(matrix: Any) -> str | None:
    large = min(matrix.shape) >= ROUND_FROM and matrix.dtype == tf.float32
    return "bfloat16" if large and _hardware.multiplies_bfloat16() else None


def symmetric_product(left: Any, right: Any) -> Any:
    """`left @ right`, known to be symmetric: a large one is half computed, half copied.

    Of each strip of rows only what is not left of the diagonal is computed.
    """
    height = left.shape[0]
    if height < HALVE_FROM or left.dtype == tf.bfloat16:  # whose strips are slow
        return ops.matmul(left, right)
    bounds = [height * place // _STRIPS for place in range(_STRIPS + 1)]
    strips = [
        ops.matmul(left[low:high], right[:, low:])
        for low, high in itertools.pairwise(bounds)
    ]
    rows = []
    for place, strip in enumerate(strips):
        low, high = bounds[place], bounds[place + 1]
        below = [
            ops.transpose(upper[:, low - start : high - start])
            for upper, start in zip(strips[:place], bounds, strict=False)
        ]
        rows.append(ops.concatenate([*below, strip], axis=1))
    return ops.concatenate(rows, axis=0)
