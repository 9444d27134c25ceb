"""Pictures that several reports draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kopt import _extras


def bars(
    ax: Any,
    names: Sequence[str],
    values: Sequence[float],
    *,
    labels: Sequence[str] = (),
    of: Sequence[float] = (),
) -> Any:
    """Draw one horizontal bar for each name, the first on top.

    Args:
        ax: The matplotlib `Axes` to draw into; `None` makes a figure of the right size.
        names: What the bars are of.
        values: Their lengths.
        labels: What stands beside each.
        of: Lengths of grey bars behind them, which they are a part of.

    Returns:
        The `Axes`.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    pyplot = _extras.load("matplotlib.pyplot", "plot")
    if ax is None:
        size = (7, 1 + 0.3 * len(names))
        _, ax = pyplot.subplots(figsize=size, layout="constrained")
    places = range(len(names))
    if of:
        ax.barh(places, of, color="0.92")
    drawn = ax.barh(places, values)
    if labels:
        ax.bar_label(drawn, labels, padding=4, fontsize="small")
    ax.set_yticks(places, names)
    ax.invert_yaxis()
    return ax
