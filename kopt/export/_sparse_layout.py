"""TFLite's format of sparse constants (TACO's), turned into dense arrays.

A tensor is stored level by level: first the axes in some order, then, where it is cut
into blocks, the axes inside a block. A dense level holds all positions along its axis;
a compressed one holds segments and, for each segment, the positions that are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Level:
    """One level: its size if it is dense, its segments and indices if compressed."""

    size: int = 0
    segments: np.ndarray | None = None
    indices: np.ndarray | None = None


@dataclass(frozen=True)
class SparseLayout:
    """How the values of a sparse constant lie in its dense form.

    Attributes:
        order: The axis of each level. Numbers from the rank on are axes inside blocks.
        blocked: The axis of the tensor that each axis inside a block belongs to.
        levels: The levels, outermost first.
    """

    order: Sequence[int]
    blocked: Sequence[int]
    levels: Sequence[Level]

    def densify(self, values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """The dense array of that shape, with zeros where nothing is stored."""
        positions = self._positions()
        place = [positions[self.order.index(axis)] for axis in range(len(shape))]
        for number, axis in enumerate(self.blocked):
            level = self.order.index(len(shape) + number)
            place[axis] = place[axis] * self.levels[level].size + positions[level]
        dense = np.zeros(shape, values.dtype)
        dense[tuple(place)] = values[: len(positions[0])]
        return dense

    def _positions(self) -> list[np.ndarray]:
        """Along each level, the position of every stored value, in storage order."""
        positions: list[np.ndarray] = []
        count = 1
        for level in self.levels:
            if level.segments is None or level.indices is None:
                repeats: Any = level.size
                here = np.tile(np.arange(level.size), count)
            else:
                repeats = np.diff(level.segments)
                here = np.asarray(level.indices, "int64")
            positions = [np.repeat(earlier, repeats) for earlier in positions]
            positions.append(here)
            count = len(here)
        return positions


def read_layout(schema: ModuleType, found: Any) -> SparseLayout:
    """The layout that a file's `SparsityParameters` describe."""
    levels = [
        _level(schema, found.DimMetadata(i)) for i in range(found.DimMetadataLength())
    ]
    order = found.TraversalOrderAsNumpy().tolist()
    blocked = found.BlockMapAsNumpy().tolist() if found.BlockMapLength() else []
    return SparseLayout(order, blocked, levels)


def _level(schema: ModuleType, found: Any) -> Level:
    if found.Format() == schema.DimensionType.DENSE:
        return Level(size=found.DenseSize())
    segments = _vector(schema, found.ArraySegmentsType(), found.ArraySegments())
    indices = _vector(schema, found.ArrayIndicesType(), found.ArrayIndices())
    return Level(segments=segments, indices=indices)


def _vector(schema: ModuleType, kind: int, table: Any) -> np.ndarray:
    kinds = schema.SparseIndexVector
    reader = {
        kinds.Int32Vector: schema.Int32Vector,
        kinds.Uint16Vector: schema.Uint16Vector,
        kinds.Uint8Vector: schema.Uint8Vector,
    }[kind]()
    reader.Init(table.Bytes, table.Pos)
    values = reader.ValuesAsNumpy() if reader.ValuesLength() else []
    return np.asarray(values, "int64")
