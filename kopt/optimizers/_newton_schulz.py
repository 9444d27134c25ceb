"""Orthogonalization of a matrix by a few steps of an odd polynomial."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from keras import ops

from kopt.optimizers import _hardware
from kopt.optimizers._transforms import sum_of_squares

#: From this many rows and columns on, products cost so much that it pays to compute
#: half of a symmetric one, and to round the first ones to bfloat16.
LARGE = 512
#: `"auto"` rounds in no more steps than these, the first ones, and only if that many
#: exact ones follow. Two keep within about 0.1 % of float32; a third would have 0.4 %.
ROUNDED_STEPS, EXACT_STEPS = 2, 3

# A symmetric product is put together from about four strips: more spare less than they
# cost. Processors multiply best what is a multiple of this high.
_STRIPS, _UNIT = 4, 128


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
        dtype: Dtype of the products, `None` for the matrix's own. `"auto"` is that too,
            but bfloat16 for the polynomial of the first steps, if the matrix is large,
            in float32 and on hardware that multiplies bfloat16.
    """
    rounded = _rounded_steps(matrix, steps) if dtype == "auto" else 0
    # The products are of the size of the shorter side.
    tall = matrix.shape[0] > matrix.shape[1]
    x = ops.transpose(matrix) if tall else matrix
    x = x / (ops.sqrt(sum_of_squares(x)) + epsilon)
    if dtype not in (None, "auto"):
        x = ops.cast(x, dtype)
    for number in range(steps):
        # What rounding does to the polynomial turns the whole of x by as little, small
        # singular values too. To round x itself would drown those.
        seen = ops.cast(x, "bfloat16") if number < rounded else x
        x = ops.matmul(_polynomial(seen, x.dtype, tuple(coefficients)), x)
    x = ops.cast(x, matrix.dtype)
    return ops.transpose(x) if tall else x


def _rounded_steps(matrix: Any, steps: int) -> int:
    large = min(matrix.shape) >= LARGE and matrix.dtype == tf.float32
    if not large or not _hardware.multiplies_bfloat16():
        return 0
    return min(ROUNDED_STEPS, max(0, steps - EXACT_STEPS))


def _polynomial(x: Any, dtype: Any, coefficients: tuple[float, ...]) -> Any:
    """`a I + b (x x^T) + c (x x^T)^2`, which a step multiplies x by."""
    if x.shape[0] < LARGE:
        square = ops.matmul(x, ops.transpose(x))
        fourth = ops.matmul(square, square)
        return _combined(coefficients, dtype, square, [fourth])
    square = ops.concatenate(strips_of_gram(x), axis=0)
    combined = _compiled(coefficients, dtype, tuple(square.shape), square.dtype)
    return combined(square, strips_of_gram(square))


def _combined(
    coefficients: tuple[float, ...], dtype: Any, square: Any, fourth: list[Any]
) -> Any:
    a, b, c = coefficients
    whole = ops.concatenate(fourth, axis=0)
    diagonal = a * ops.eye(square.shape[0], dtype=dtype)
    return diagonal + b * ops.cast(square, dtype) + c * ops.cast(whole, dtype)


@functools.cache
def _compiled(
    coefficients: tuple[float, ...], dtype: Any, *_signature: Any
) -> Callable[[Any, list[Any]], Any]:
    # One pass over memory, not six. A function for each signature, as in `_update.py`.
    return tf.function(
        functools.partial(_combined, coefficients, dtype),
        jit_compile=True,
        autograph=False,
    )


def strips_of_gram(x: Any) -> list[Any]:
    """`x x^T` in strips of rows: what is below the diagonal is computed, and copied."""
    height = x.shape[0]
    strip = _UNIT * math.ceil(height / (_STRIPS * _UNIT))
    bounds = list(itertools.pairwise([*range(0, height, strip), height]))
    below = [_product(x[low:], x[low:high]) for low, high in bounds]
    rows = []
    for place, (low, high) in enumerate(bounds):
        left = [
            column[low - start : high - start]
            for column, (start, _) in zip(below[:place], bounds, strict=False)
        ]
        right = ops.transpose(below[place][high - low :])
        rows.append(ops.concatenate([*left, below[place][: high - low], right], axis=1))
    return rows


def _product(left: Any, right: Any) -> Any:
    """`left right^T`."""
    if right.dtype == tf.bfloat16:
        return tf.matmul(left, right, transpose_b=True)
    # A copy: TensorFlow would fold the transposition into the product, which takes half
    # as long again then.
    return tf.matmul(left, tf.raw_ops.Snapshot(input=ops.transpose(right)))
