"""How the progress of a run looks: as a live table, and as a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kopt._text_table import duration, number

# How many epochs a live table has; the older ones have left it.
_ROWS = 10


class Row(NamedTuple):
    """An epoch.

    Args:
        epoch: Its number, counted from 1.
        values: The logs by name.
        seconds: How long it took, or has taken so far; `None` if that is not known.
    """

    epoch: int
    values: Mapping[str, float]
    seconds: float | None


class Place(NamedTuple):
    """How far the run is.

    Args:
        epochs: How many epochs it has; `None` if that is not known.
        batch: The batches of the present epoch that are over; 0 between epochs.
        batches: How many it has; `None` if that is not known.
        share: How much of the run is over, from 0 to 1; `None` if that is not known.
        left: How many seconds are left; `None` if that is not known.
    """

    epochs: int | None
    batch: int
    batches: int | None
    share: float | None
    left: float | None


def line(label: str, row: Row, place: Place) -> str:
    """A row as a line."""
    parts = [f"{label:>20}"] if label else []
    parts.append(f"epoch {_of(row.epoch, place.epochs)}")
    if place.batch:
        parts.append(f"batch {_of(place.batch, place.batches)}")
    parts += [f"{name} {number(value)}" for name, value in row.values.items()]
    times = [] if row.seconds is None else [duration(row.seconds)]
    times += [] if place.left is None else [f"{duration(place.left)} left"]
    return "  ".join([*parts, ", ".join(times)]).rstrip()


def table(label: str, rows: Sequence[Row], place: Place) -> Any:
    """The last rows as something that rich draws, with a bar below."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    drawn = Table(title=label or None, title_justify="left")
    names = list(dict.fromkeys(name for row in rows for name in row.values))
    for name in ("epoch", *names, "time"):
        drawn.add_column(name, justify="right")
    for row in rows[-_ROWS:]:
        values = (row.values.get(name) for name in names)
        cells = ["" if value is None else number(value) for value in values]
        epoch = _of(row.epoch, place.epochs)
        time = "" if row.seconds is None else duration(row.seconds)
        drawn.add_row(epoch, *cells, time)
    below = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=1.0, completed=place.share or 0.0, width=40)
    text = f"batch {_of(place.batch, place.batches)}" if place.batch else ""
    left = "" if place.left is None else f"{duration(place.left)} left"
    below.add_row(bar, text, left)
    return Group(drawn, below)


def _of(count: int, whole: int | None) -> str:
    return f"{count}" if whole is None else f"{count}/{whole}"
