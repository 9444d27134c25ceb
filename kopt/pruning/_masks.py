"""Which weights stay: pure functions from weights to masks.

A score says how much a weight, or a block of weights, is worth keeping; a mask is true
where it stays. Nothing here knows models, variables or steps.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras import ops

from kopt.pruning._largest import keep_largest as keep_largest

Tensor = Any


def without_sign(scores: Tensor) -> Tensor:
    """Other scores that are never negative and have the same order.

    A float orders like its bits read as an integer, backwards where it is negative.
    Half of the integers are negative; the last bit makes room for them.
    """
    bits = tf.bitcast(scores, tf.int32)
    ordered = tf.where(bits < 0, tf.bitwise.bitwise_xor(bits, 2**31 - 1), bits)
    return tf.bitcast(tf.bitwise.right_shift(ordered, 1) + 2**30, tf.float32)


def kept_count(size: int, sparsity: Tensor) -> Tensor:
    """How many of `size` weights stay at a sparsity: at least one.

    In float32, halves to the even number, as TensorFlow Model Optimization counts.
    """
    share = 1.0 - ops.cast(sparsity, "float32")
    wanted = ops.round(ops.cast(size, "float32") * share)
    return ops.cast(ops.maximum(wanted, 1.0), "int32")


def block_scores(matrices: Tensor, block_size: tuple[int, int], pooling: str) -> Tensor:
    """Pool scores over blocks.

    Args:
        matrices: Scores of shape `(positions, inputs, outputs)`.
        block_size: Inputs and outputs to a block; both divide the shape.
        pooling: `"AVG"` or `"MAX"`.

    Returns:
        Scores of shape `(positions, inputs / height, outputs / width)`.
    """
    height, width = block_size
    positions, inputs, outputs = matrices.shape
    blocks = ops.reshape(
        matrices, (positions, inputs // height, height, outputs // width, width)
    )
    pool = ops.max if pooling == "MAX" else ops.mean
    # One side after the other, which rounds as TensorFlow Model Optimization does.
    return pool(pool(blocks, axis=2), axis=-1)


def spread_blocks(mask: Tensor, block_size: tuple[int, int]) -> Tensor:
    """The mask of the weights from the mask of their blocks."""
    height, width = block_size
    return ops.repeat(ops.repeat(mask, height, axis=1), width, axis=2)


def drop_m_of_n(matrices: Tensor, zeros: int, group: int) -> Tensor:
    """A mask without the `zeros` smallest of every `group` consecutive inputs.

    Of equal scores the first ones stay. What the last group lacks counts as zeros at
    its end.

    Args:
        matrices: Scores of shape `(positions, inputs, outputs)`.
        zeros: How many of a group go.
        group: How many make a group.
    """
    positions, inputs, outputs = matrices.shape
    rows = ops.transpose(matrices, (0, 2, 1))
    rows = ops.pad(rows, ((0, 0), (0, 0), (0, -inputs % group)))
    groups = ops.reshape(rows, (positions, outputs, -1, group))
    mine, other = ops.expand_dims(groups, -1), ops.expand_dims(groups, -2)
    place = ops.arange(group)
    comes_first = ops.expand_dims(place, 0) < ops.expand_dims(place, 1)
    is_ahead = (other > mine) | ((other == mine) & comes_first)
    rank = ops.sum(ops.cast(is_ahead, "float32"), axis=-1)
    rank = ops.reshape(rank, (positions, outputs, -1))[:, :, :inputs]
    return ops.transpose(rank, (0, 2, 1)) < group - zeros
