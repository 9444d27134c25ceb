"""Which values of a tensor matter, where it is only read by a softmax.

A mask that is added to scores is a number far below all others, such as -1e9. A range
that holds it has no steps left for the scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

# All that is masked in a row together weighs less than this power of e, 0.0015, beside
# its largest score: below half of the step of 1/256 that probabilities have.
_BELOW = 6.5

# Scores are never this far apart; constants that stand for "masked" are.
_FAR_BELOW = 1000.0

# How far apart the scores of a row may be that a mask is added to.
_ROOM = 64.0


@dataclass(frozen=True)
class NearLargest:
    """Of a tensor that only a softmax reads: values near the largest of their row.

    Attributes:
        axis: The axis of the softmax.
    """

    axis: int = -1

    def relevant(self, values: Any) -> Any:
        """The values, with those that the softmax does not read cut off."""
        values = tf.convert_to_tensor(values)
        largest = tf.reduce_max(values, axis=self.axis, keepdims=True)
        # Of a row that is masked as a whole nothing is read.
        is_read = largest > tf.reduce_max(largest) - _FAR_BELOW
        lowest = tf.reduce_min(tf.where(is_read, largest, values.dtype.max))
        return tf.maximum(values, lowest - below(values, self.axis))


@dataclass(frozen=True)
class AddedMask:
    """Of a tensor that is added to scores: values that do not stand for "masked".

    Attributes:
        subtracted: Whether the tensor is taken off the scores: the mask is positive.
    """

    subtracted: bool = False

    def relevant(self, values: Any) -> Any:
        """The values, with a mask only as far from the others as scores may lie."""
        values = tf.convert_to_tensor(values)
        if self.subtracted:
            return -_without_mask(-values)
        return _without_mask(values)


def _without_mask(values: Any) -> Any:
    is_mask = values < tf.reduce_max(values) - _FAR_BELOW
    lowest = tf.reduce_min(tf.where(is_mask, values.dtype.max, values))
    return tf.where(is_mask, lowest - _ROOM, values)


def mask_factor(limit: Any, *constants: Any) -> float:
    """What to multiply constants by that make a mask, where they make one.

    A product with 1e9 has no integer form, and a softmax cannot tell it from 64.
    """
    largest = max(float(np.max(np.abs(one))) for one in constants)
    makes_mask = isinstance(limit, (AddedMask, NearLargest)) and largest > _FAR_BELOW
    return _ROOM / largest if makes_mask else 1.0


def below(scores: Any, axis: int = -1) -> float:
    """How far below the largest score of its row a masked one has to lie."""
    return _BELOW + math.log(scores.shape[axis] or 1024)
