"""Channels that have to go together.

Each output of a layer is given a *slot*. Where two channels can only be taken out
together, because they are added or because one layer works on both, their slots are
joined. A tensor's channels are then a vector of slots, in which one may stand more than
once: flattening repeats all of them at every place of an image.
"""

from __future__ import annotations

import numpy as np


class Slots:
    """Slots that are made, joined and pinned; which of them are one is told by root."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._pins: list[tuple[np.ndarray, str]] = []

    def __len__(self) -> int:
        return len(self._parents)

    def new(self, count: int) -> np.ndarray:
        """Slots that are one with no other."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return np.arange(first, first + count)

    def join(self, first: np.ndarray, second: np.ndarray) -> None:
        """Make the slots of two vectors one, place by place."""
        for one, other in zip(first.tolist(), second.tolist(), strict=True):
            a, b = self._root(one), self._root(other)
            self._parents[max(a, b)] = min(a, b)

    def pin(self, slots: np.ndarray, reason: str) -> None:
        """Say that these slots have to stay."""
        self._pins.append((slots, reason))

    def roots(self, slots: np.ndarray) -> np.ndarray:
        """The slots that stand for these ones."""
        every = np.array([self._root(slot) for slot in range(len(self))], "int64")
        return every[slots] if len(every) else slots

    def pinned(self) -> dict[int, str]:
        """The roots that have to stay, each with the first reason for it."""
        reasons: dict[int, str] = {}
        for slots, reason in self._pins:
            for slot in slots.tolist():
                reasons.setdefault(self._root(slot), reason)
        return reasons

    def _root(self, slot: int) -> int:
        parents = self._parents
        while parents[slot] != slot:
            parents[slot] = parents[parents[slot]]
            slot = parents[slot]
        return slot
