"""Which operation of a file belongs to which layer of a model.

Kind and shape decide; between operations of the same kind and shape the names that
Keras gave, which the file keeps, and then the order. Order alone would not do: the
converter puts branches one after the other as it likes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from kopt.export._file_weights import Slot, Unit


class Match(NamedTuple):
    """Weights that found their layer: `kernel` is in the layer's layout."""

    slot: Slot
    unit: Unit
    kernel: np.ndarray


def match(
    units: Sequence[Unit],
    slots: Sequence[Slot],
    values: Callable[[Unit], np.ndarray],
) -> list[Match]:
    """The pairs of units and slots that belong together.

    Args:
        units: The operations of the file.
        slots: The places in the model.
        values: The real numbers of a unit's kernel.
    """
    found: list[Match] = []
    ordinary = [slot for slot in slots if not slot.scales]
    left = _match_groups(units, ordinary, values, found)
    # What remains may be batch normalizations that are operations of their own.
    owners = {one.unit.kernel.index: one.slot for one in found}
    alone = [slot for slot in slots if slot.scales]
    after = []
    for unit in left:
        before = owners.get(unit.source) if unit.source is not None else None
        slot = None if before is None else before.own_normalization()
        if slot is None or not _place([unit], [slot], values, found):
            after.append(unit)
    _match_groups(after, alone, values, found)
    return found


def _match_groups(
    units: Sequence[Unit],
    slots: Sequence[Slot],
    values: Callable[[Unit], np.ndarray],
    found: list[Match],
) -> list[Unit]:
    """Match what fits; returns the units that are left over."""
    groups: dict[tuple[int, ...], list[Unit]] = {}
    for unit in units:
        kernel = values(unit)
        fitting = tuple(
            place
            for place, slot in enumerate(slots)
            if slot.arranged(unit, kernel) is not None
        )
        groups.setdefault(fitting, []).append(unit)
    taken: set[int] = set()
    left: list[Unit] = []
    for places, group in groups.items():
        free = [slots[place] for place in places if place not in taken]
        count = _place(group, free, values, found)
        used = {id(one.slot) for one in found}
        taken |= {place for place in places if id(slots[place]) in used}
        if count < len(group):
            matched = {one.unit.kernel.index for one in found}
            left += [unit for unit in group if unit.kernel.index not in matched]
    return left


def _place(
    units: list[Unit],
    slots: list[Slot],
    values: Callable[[Unit], np.ndarray],
    found: list[Match],
) -> int:
    """Pair units with slots that all fit; returns how many pairs were made."""
    made = 0
    for unit, slot in zip(*_aligned(units, slots), strict=False):
        kernel = slot.arranged(unit, values(unit))
        if kernel is not None:
            found.append(Match(slot, unit, kernel))
            made += 1
    return made


def _aligned(units: list[Unit], slots: list[Slot]) -> tuple[list[Unit], list[Slot]]:
    if len(units) < 2 and len(slots) < 2:
        return units, slots
    by_number = _by_number(units, slots)
    if by_number is not None:
        return by_number
    for level in (0, 1):
        named = [_slot_named_in(unit, slots, level) for unit in units]
        if None not in named and len({id(slot) for slot in named}) == len(named):
            return units, [slot for slot in named if slot is not None]
    return units, slots


def _by_number(
    units: list[Unit], slots: list[Slot]
) -> tuple[list[Unit], list[Slot]] | None:
    """Both in the order in which layers of one automatic name were made."""
    bases = {re.sub(r"_\d+$", "", slot.layer.name) for slot in slots}
    if len(bases) != 1 or len(units) != len(slots):
        return None
    pattern = re.compile(rf"(?:^|[/;]){re.escape(bases.pop())}((?:_\d+)*)(?=[/;]|$)")
    hits = [pattern.search(unit.kernel.name) for unit in units]
    numbers = [_numbers(hit[1]) for hit in hits if hit]
    # TensorFlow adds a number to a name that it has seen before, as a rule to all.
    if all(numbers) and len({one[:-1] for one in numbers}) == len(units):
        numbers = [one[:-1] for one in numbers]
    if len(set(numbers)) != len(units):
        return None
    ranked = sorted(zip(numbers, range(len(units)), strict=True), key=_first)
    ordered = sorted(slots, key=lambda slot: _numbers(slot.layer.name))
    return [units[place] for _, place in ranked], ordered


def _first(pair: tuple[Any, int]) -> Any:
    return pair[0]


def _numbers(name: str) -> tuple[int, ...]:
    ending = re.search(r"((?:_\d+)*)$", name)
    return tuple(int(n) for n in ending[1].split("_") if n) if ending else ()


def _slot_named_in(unit: Unit, slots: list[Slot], level: int) -> Slot | None:
    parts = re.split("[/;]", unit.kernel.name)
    if level:
        parts = [re.sub(r"_\d+$", "", part) for part in parts]
    named = [slot for slot in slots if slot.layer.name in parts]
    return named[0] if len(named) == 1 else None
