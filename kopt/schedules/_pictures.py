"""A picture of all schedules."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np

from kopt import _extras, _registry
from kopt._registry import register
from kopt.schedules._base import Schedule

_COLUMNS = 4
_LINES = 3
_LONGEST = 120


@register("schedules")
def gallery() -> Any:
    """Draw every schedule of kopt, some ways of each, with matplotlib.

    Each panel has one class and up to three of the examples that it gives of itself,
    relative to their peaks and over their length, or 120 steps of those without an end.

    Returns:
        The `Figure`, to save: `figure.savefig(path)`.

    Raises:
        ImportError: If matplotlib is not installed.

    Example:

    >>> figure = kopt.schedules.gallery()
    >>> [ax.get_title() for ax in figure.axes][:3]
    ['Constant', 'Cosine', 'CosineRestarts']
    """
    pyplot = _extras.load("matplotlib.pyplot", "plot")
    kinds = [
        kind
        for kind in map(_entry, _registry.names("schedules"))
        if inspect.isclass(kind) and issubclass(kind, Schedule)
    ]
    rows = math.ceil(len(kinds) / _COLUMNS)
    figure = pyplot.figure(figsize=(2.4 * _COLUMNS, 1.6 * rows), layout="constrained")
    for place, kind in enumerate(kinds, start=1):
        ax = figure.add_subplot(rows, _COLUMNS, place)
        _draw(kind, ax)
    return figure


def _entry(name: str) -> Any:
    return _registry.entry("schedules", name)


def _draw(kind: type[Schedule], ax: Any) -> None:
    examples = [one for one in kind.examples() if one.peak and one.duration != 1]
    for example in examples[:_LINES]:
        steps = min(example.duration or _LONGEST, _LONGEST)
        # Between the steps too, so that jumps are upright.
        at = np.linspace(0, steps, 8 * steps + 1)
        values = np.asarray(example(at))
        ax.plot(at / steps, values / example.peak, linewidth=1.5)
    ax.set_title(kind.__name__, fontsize="medium")
    ax.set(xlim=(0, 1), ylim=(0, 1.05), xticks=[], yticks=[])
