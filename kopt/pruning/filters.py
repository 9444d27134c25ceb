from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np

from kopt._registry import register
from kopt._text_table import table
from kopt.pruning._flow import Use
from kopt.pruning._following import Removal, weight_values
from kopt.pruning._heads import ATTENTION
from kopt.pruning.removal import followed


@dataclass(frozen=True)
class LayerFilters:
    """The filters, units or heads of one layer.

    Args:
        layer: The layer's path in the model.
        kind: `"filters"` or `"heads"`.
        count: How many there are.
        zero: How many of them have only zero weights.
        removable: How many `remove_filters` takes out.
        held_by: What keeps those that are zero and still stay; empty if there is none.
    """

    layer: str
    kind: str
    count: int
    zero: int
    removable: int
    held_by: str


@dataclass(frozen=True)
class FilterReport:
    """Which filters of a model can be taken out.

    Args:
        layers: One entry for each layer that makes channels, in the order of the
            graph; attention layers have one for their heads as well.
    """

    layers: tuple[LayerFilters, ...]

    @property
    def count(self) -> int:
        """How many filters, units and heads there are."""
        return sum(layer.count for layer in self.layers)

    @property
    def zero(self) -> int:
        """How many have only zero weights."""
        return sum(layer.zero for layer in self.layers)

    @property
    def removable(self) -> int:
        """How many `remove_filters` takes out."""
        return sum(layer.removable for layer in self.layers)

    def __str__(self) -> str:
        rows = [("layer", "kind", "count", "zero", "removable", "held by")]
        for layer in self.layers:
            counts = (f"{layer.count:,}", f"{layer.zero:,}", f"{layer.removable:,}")
            rows.append((layer.layer, layer.kind, *counts, layer.held_by))
        sums = (f"{self.count:,}", f"{self.zero:,}", f"{self.removable:,}")
        rows.append(("all", "", *sums, ""))
        return table(rows, left=(0, 1, 5))


@register("pruning", serializable=False)
def filter_report(model: keras.Model) -> FilterReport:
    """Count the filters, units and heads that do nothing, and tell which have to stay.

    Args:
        model: A built functional or sequential model.

    Returns:
        The counts, layer by layer and as a whole; `print` shows them as a table.

    Raises:
        TypeError: If `model` is not a Keras 3 model.
        ValueError: If it is not built, or is neither functional nor sequential.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "relu")])
    >>> model.add(keras.layers.Dense(2))
    >>> model.set_weights([w * 0 for w in model.get_weights()])
    >>> report = kopt.pruning.filter_report(model)
    >>> [(layer.zero, layer.removable, layer.held_by) for layer in report.layers]
    [(4, 3, 'the last one of its layer'), (2, 0, 'an output of the model')]
    """
    flow, removal = followed(model)
    rows = [row for use in flow.uses.values() for row in _rows(use, removal)]
    return FilterReport(tuple(rows))


def _rows(use: Use, removal: Removal) -> Iterator[LayerFilters]:
    scored = [axis for axis in use.axes.values() if axis.is_scored]
    for variable, axis, slots, *_ in scored:
        kernel = np.moveaxis(weight_values(variable), axis, -1)
        zero = (kernel.reshape(-1, len(slots)) == 0).all(0)
        yield _row(use, "filters", slots, zero, removal)
    if isinstance(use.layer, ATTENTION):
        heads = use.vectors["heads"]
        zero = np.ones(len(heads), "bool")
        for variable, axis, slots, *_ in use.axes.values():
            for place, head in enumerate(heads):
                if len(variable.shape) > 2 and head in slots:
                    part = weight_values(variable).compress(slots == head, axis)
                    zero[place] &= not part.any()
        yield _row(use, "heads", heads, zero, removal)


def _row(
    use: Use, kind: str, slots: np.ndarray, zero: np.ndarray, removal: Removal
) -> LayerFilters:
    stays = removal.kept(slots)
    held = removal.roots[slots[zero & stays]].tolist()
    reasons = [
        removal.reasons.get(root, "channels that it is added to or goes with")
        for root in held
    ]
    return LayerFilters(
        use.layer.path or use.layer.name,
        kind,
        len(slots),
        int(zero.sum()),
        int((~stays).sum()),
        "; ".join(dict.fromkeys(reasons)),
    )
