"""Kernels as matrices, and back."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from keras import ops

Tensor = Any


class Folding(NamedTuple):
    """A kernel whose axes are put together in groups, one axis for each group.

    Args:
        shape: The kernel's shape.
        groups: The kernel's axes, each in one group.
    """

    shape: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape of the folded kernel."""
        return tuple(
            math.prod(self.shape[axis] for axis in group) for group in self.groups
        )

    def fold(self, kernel: Tensor) -> Tensor:
        """A tensor of the kernel's shape with one axis for each group."""
        return ops.reshape(_transposed(kernel, self._order), self.sizes)

    def unfold(self, folded: Tensor) -> Tensor:
        """The inverse of `fold`."""
        order = self._order
        moved = ops.reshape(folded, [self.shape[axis] for axis in order])
        return _transposed(moved, np.argsort(order).tolist())

    @property
    def keeps_order(self) -> bool:
        """Whether the groups, one after the other, are the axes as they are."""
        return self._order == sorted(self._order)

    @property
    def _order(self) -> list[int]:
        return [axis for group in self.groups for axis in group]


def _transposed(tensor: Tensor, order: list[int]) -> Tensor:
    return tensor if order == sorted(order) else ops.transpose(tensor, order)
