"""Which filters, units and heads of a model are pruned, and where they lie."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import keras
import numpy as np

from kopt._keras.graphs import has_graph
from kopt._keras.layer_tree import with_nested_layers
from kopt.pruning._flow import Axis, Flow
from kopt.pruning._following import flow_of, removal_of, weight_values
from kopt.pruning._group import MaskConstraint
from kopt.pruning._heads import ATTENTION, head_axes, head_count
from kopt.pruning._units import UnitLayout, UnitPattern
from kopt.pruning._weights import PruningPolicy, Selection, prunable_weights

STRUCTURES = ("filters", "heads")


class Structure(NamedTuple):
    """Whole units to prune.

    Args:
        weights: The weights that units lie in, each with where they lie.
        budgets: How many units compete with each other.
    """

    weights: list[tuple[keras.Variable, UnitLayout]]
    budgets: list[int]


def structured_members(
    model: keras.Model,
    structure: str,
    selection: Selection | None,
    policy: PruningPolicy | None,
    *,
    is_shared: bool,
) -> tuple[list[MaskConstraint], UnitPattern]:
    """The masks over whole filters or heads of a model, and their pattern.

    Raises:
        ValueError: If there are none that can be pruned, or some are pruned already.
    """
    chosen = {id(v) for v in prunable_weights(model, selection, policy)}
    find = _filters if structure == "filters" else _heads
    weights, budgets = find(model, chosen)
    if not weights:
        raise ValueError(_nothing(model, structure))
    again = [v.path for v, _ in weights if isinstance(v.constraint, MaskConstraint)]
    if again:
        raise ValueError(
            f"These weights are pruned already: {', '.join(again)}. Choose others with "
            "`layers`, or call `kopt.pruning.strip_pruning(model)` first."
        )
    members = [MaskConstraint(variable, layout) for variable, layout in weights]
    return members, UnitPattern(tuple(budgets), is_shared)


def _filters(model: keras.Model, chosen: set[int]) -> Structure:
    """All filters of the chosen kernels that can be taken out once they are zero."""
    if not has_graph(model):
        raise ValueError(
            "`structure='filters'` needs a functional or sequential model, whose graph "
            "tells which filters are added together and which are outputs. Received a "
            f"{type(model).__name__}. Prune single weights of it, or its heads with "
            "`structure='heads'`, or build it with the functional API."
        )
    flow = flow_of(model)
    axes = [axis for use in flow.uses.values() for axis in use.axes.values()]
    roots = flow.slots.roots(np.arange(len(flow.slots)))
    makers: dict[int, set[int]] = defaultdict(set)
    for axis in axes:
        if axis.is_scored:
            for root in np.unique(roots[axis.slots]).tolist():
                makers[root].add(id(axis.variable))
    pinned = flow.slots.pinned()
    wanted = [r for r, m in makers.items() if m <= chosen and r not in pinned]
    removable = _removable_as_zeros(model, flow, roots, wanted)
    # What competes are the filters of one layer, or of all layers whose outputs are
    # added together.
    budgets: dict[frozenset[int], list[int]] = defaultdict(list)
    for root in sorted(removable):
        budgets[frozenset(makers[root])].append(root)
    several = [budget for budget in budgets.values() if len(budget) > 1]
    units = np.full(len(roots) + 1, -1)
    units[[root for budget in several for root in budget]] = range(
        sum(map(len, several))
    )
    found = [
        (axis.variable, _layout(axis, units[roots[axis.slots]]))
        for axis in axes
        if axis.is_own and (units[roots[axis.slots]] >= 0).any()
    ]
    return Structure(found, [len(budget) for budget in several])


def _removable_as_zeros(
    model: keras.Model, flow: Flow, roots: np.ndarray, wanted: Iterable[int]
) -> set[int]:
    """Which of the wanted filters could be taken out if all of them were zero.

    An activation may turn zero into something else, and a frozen layer may add to it.
    """
    goes = np.zeros(len(roots), "bool")
    goes[list(wanted)] = True
    zeros: dict[int, list[Axis]] = defaultdict(list)
    for use in flow.uses.values():
        for axis in use.axes.values():
            if axis.is_own:
                zeros[id(axis.variable)].append(axis)

    def read(variable: keras.Variable) -> np.ndarray:
        values = weight_values(variable)
        for axis in zeros[id(variable)]:
            values = np.moveaxis(values.copy(), axis.axis, 0)
            values[goes[roots[axis.slots]]] = 0
            values = np.moveaxis(values, 0, axis.axis)
        return values

    removal = removal_of(flow_of(model, read), is_plan=True)
    return {root for root in np.flatnonzero(goes).tolist() if not removal.stays[root]}


def _layout(axis: Axis, units: np.ndarray) -> UnitLayout:
    shape = tuple(axis.variable.shape)
    return UnitLayout(shape, axis.axis, tuple(units.tolist()), axis.is_scored)


def _heads(model: keras.Model, chosen: set[int]) -> Structure:
    """The heads of all chosen attention layers, at whatever depth."""
    found: list[tuple[keras.Variable, UnitLayout]] = []
    budgets: list[int] = []
    for layer in with_nested_layers(model):
        if not isinstance(layer, ATTENTION) or head_count(layer) < 2:
            continue
        axes = list(head_axes(layer))
        if not all(id(a.variable) in chosen for a in axes if len(a.variable.shape) > 2):
            continue
        first = sum(budgets)
        for variable, axis, heads in axes:
            units = tuple((first + heads).tolist())
            shape = tuple(variable.shape)
            layout = UnitLayout(shape, axis, units, is_scored=len(shape) > 2)
            found.append((variable, layout))
        budgets.append(head_count(layer))
    return Structure(found, budgets)


def _nothing(model: Any, structure: str) -> str:
    if structure == "heads":
        return (
            f"{model.name!r} has no heads to prune among the chosen layers: no "
            "trainable MultiHeadAttention or GroupQueryAttention with two or more."
        )
    return (
        f"None of the chosen layers of {model.name!r} has filters or units that could "
        "be taken out. Those of the model's outputs have to stay, and those that are "
        "added together go together: choose all layers that make them. "
        "`kopt.pruning.filter_report(model)` tells what holds each layer's."
    )
