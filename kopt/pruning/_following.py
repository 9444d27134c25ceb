"""The flow of a model by all the rules there are, and which channels can go."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

import keras
import numpy as np

from kopt.pruning import _attention_rules, _channelwise_rules, _linear_rules
from kopt.pruning._flow import End, Flow, Read

_RULES = {
    **_linear_rules.RULES,
    **_channelwise_rules.RULES,
    **_attention_rules.RULES,
}


def flow_of(model: Any, read: Read | None = None) -> Flow:
    """The flow of a model.

    Args:
        model: A functional or sequential model.
        read: What to take for the values of a weight; by default what they are.
    """
    return Flow(model, _RULES, read or weight_values)


def weight_values(variable: keras.Variable) -> np.ndarray:
    """The values of a weight as a float array."""
    return keras.ops.convert_to_numpy(variable.value).astype("float32", copy=False)


class Removal(NamedTuple):
    """Which channels can be taken out without a change of the outputs.

    Args:
        roots: The root of each slot.
        stays: Whether each slot stays.
        reasons: Why a root stays; roots that are at work are not listed.
    """

    roots: np.ndarray
    stays: np.ndarray
    reasons: dict[int, str]

    def kept(self, slots: np.ndarray) -> np.ndarray:
        """Whether each of some slots stays."""
        return self.stays[slots]


def removal_of(flow: Flow, *, is_plan: bool = False) -> Removal:
    """The channels of a flow that have no effect, or a constant one that can move.

    Args:
        flow: The flow.
        is_plan: Whether these are not the weights as they are, but with zeros where
            there could be some. Then channels are of use that no weight looks at, and
            none has to stay for being the last one of its layer.
    """
    roots = flow.slots.roots(np.arange(len(flow.slots)))
    reasons = flow.slots.pinned()
    stays = np.zeros(len(roots), "bool")
    stays[list(reasons)] = True
    by_layer: dict[int, list[End]] = defaultdict(list)
    for end in flow.ends:
        needed = _needed(end, is_plan)
        stays[roots[end.channels.slots[needed]]] = True
        # A constant of which no share can move is worth telling.
        held = needed & ~np.isnan(end.channels.values)
        for root in roots[end.channels.slots[held]].tolist():
            reasons.setdefault(root, f"a constant that {end.layer.name!r} needs")
        by_layer[id(end.layer)].append(end)
    for ends in by_layer.values():
        stays[roots[_unlike(ends)]] = True
    for vector in () if is_plan else _vectors(flow):
        here = roots[vector]
        if not stays[here].any():
            stays[here[0]] = True
            reasons.setdefault(int(here[0]), "the last one of its layer")
    return Removal(roots, stays[roots], reasons)


def _needed(end: End, is_plan: bool) -> np.ndarray:
    """Which channels a layer cannot do without."""
    values = end.channels.values
    can_go = values == 0
    if end.shares is not None:
        can_go |= ~np.isnan(values)
    return ~can_go if is_plan else end.used & ~can_go


def _unlike(ends: list[End]) -> np.ndarray:
    """Slots whose constant is not the same at each call of a shared layer."""
    first, unlike = ends[0], []
    for end in ends[1:]:
        # Query, key and value of attention are several ends as well, of zeros only.
        if end.shares is None or first.shares is None:
            continue
        if end.bias is first.bias and len(end.used) == len(first.used):
            differ = first.channels.values != end.channels.values
            unlike.append(end.channels.slots[end.used & differ])
    return np.concatenate(unlike) if unlike else np.zeros(0, "int64")


def _vectors(flow: Flow) -> list[np.ndarray]:
    """The slots of everything that has to keep one."""
    made = [v for use in flow.uses.values() for v in use.vectors.values()]
    ended = [end.channels.slots for end in flow.ends]
    return [vector for vector in made + ended if len(vector)]
