"""Masks over whole filters, units or heads.

A *unit* is what is pruned as one: a filter with all that follows from it, in one weight
or in many. Units that compete with each other make a *budget*.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from keras import ops

from kopt.pruning import _masks

Tensor = Any


@dataclass(frozen=True)
class UnitLayout:
    """Where units lie in one weight.

    Args:
        shape: The weight's shape.
        axis: The axis on which the units lie.
        units: The unit of each place on it, -1 for one that is not pruned.
        is_scored: Whether these numbers tell what a unit is worth.
    """

    shape: tuple[int, ...]
    axis: int
    units: tuple[int, ...]
    is_scored: bool

    def squares(self, weights: Tensor, count: int) -> Tensor:
        """The sum of squares of each of `count` units."""
        others = [axis for axis in range(len(self.shape)) if axis != self.axis]
        squares = ops.sum(ops.square(ops.cast(weights, "float32")), axis=others)
        # What is not pruned is summed in a place of its own.
        places = np.where(np.array(self.units) < 0, count, self.units)
        return tf.math.unsorted_segment_sum(squares, places, count + 1)[:count]

    def sizes(self, count: int) -> np.ndarray:
        """How many numbers of this weight each of `count` units has."""
        units = np.array(self.units)
        per_place = math.prod(self.shape) // self.shape[self.axis]
        return np.bincount(units[units >= 0], minlength=count) * per_place

    def mask(self, kept: Tensor, count: int) -> Tensor:
        """The weight's mask, from that of all `count` units."""
        with_others = ops.concatenate([kept, ops.ones((1,), "bool")])
        places = np.where(np.array(self.units) < 0, count, self.units)
        shape = [1] * len(self.shape)
        shape[self.axis] = -1
        mask = ops.reshape(tf.gather(with_others, places), shape)
        return ops.broadcast_to(mask, self.shape)

    def get_config(self) -> dict[str, Any]:
        return {
            "shape": list(self.shape),
            "axis": self.axis,
            "units": _runs(self.units),
            "is_scored": self.is_scored,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> UnitLayout:
        units = [
            first + step * place
            for first, count, step in config["units"]
            for place in range(count)
        ]
        shape = tuple(config["shape"])
        return cls(shape, config["axis"], tuple(units), config["is_scored"])


@dataclass(frozen=True)
class UnitPattern:
    """Prunes whole units by the root mean square of their scores.

    Args:
        budgets: How many units each budget has; units are numbered from the first
            budget to the last.
        is_shared: Whether all budgets are one, of which each keeps a unit.
    """

    budgets: tuple[int, ...]
    is_shared: bool = False

    #: The sparsity is the schedule's.
    is_scheduled = True

    def masks(
        self,
        scores: Sequence[Tensor],
        layouts: Sequence[Any],
        sparsity: Tensor,
        *,
        signed: bool = False,
    ) -> list[Tensor]:
        """Masks over all weights of the units.

        Args:
            scores: What each number of each weight is worth, float32.
            layouts: The `UnitLayout` of each.
            sparsity: The share of units to drop.
            signed: Not for units, whose scores are squared.
        """
        count = sum(self.budgets)
        scored = [(s, u) for s, u in zip(scores, layouts, strict=True) if u.is_scored]
        squares = sum(layout.squares(score, count) for score, layout in scored)
        sizes = sum(layout.sizes(count) for _, layout in scored)
        kept = self.kept(ops.sqrt(squares / np.float32(sizes)), sparsity)
        return [layout.mask(kept, count) for layout in layouts]

    def kept(self, scores: Tensor, sparsity: Tensor) -> Tensor:
        """Which units stay, by their scores."""
        ends = np.cumsum(self.budgets).tolist()
        starts = [0, *ends[:-1]]
        budgets = [scores[s:e] for s, e in zip(starts, ends, strict=True)]
        if self.is_shared:
            best = [self._with_a_place(budget) for budget in budgets]
            count = _masks.kept_count(sum(self.budgets), sparsity)
            count = ops.maximum(count, len(self.budgets))
            return _masks.keep_largest(ops.concatenate(best), count)
        parts = [
            _masks.keep_largest(budget, _masks.kept_count(budget.shape[0], sparsity))
            for budget in budgets
        ]
        return ops.concatenate(parts)

    def get_config(self) -> dict[str, Any]:
        return {"budgets": list(self.budgets), "is_shared": self.is_shared}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> UnitPattern:
        return cls(tuple(config["budgets"]), config["is_shared"])

    @staticmethod
    def _with_a_place(scores: Tensor) -> Tensor:
        """The scores, the best of which beats those of all other budgets."""
        best = ops.arange(scores.shape[0]) == ops.cast(ops.argmax(scores), "int32")
        return ops.where(best, np.float32(np.finfo("float32").max), scores)


def _runs(units: Sequence[int]) -> list[list[int]]:
    """Numbers as runs of `[first, count, step]`: most follow one another."""
    runs: list[list[int]] = []
    for unit in units:
        if runs:
            first, count, step = runs[-1]
            if count == 1 and unit - first in (0, 1):
                step = unit - first
            if unit == first + step * count and (count > 1 or unit - first in (0, 1)):
                runs[-1] = [first, count + 1, step]
                continue
        runs.append([unit, 1, 1])
    return runs
