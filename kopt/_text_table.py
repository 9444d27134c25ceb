"""Rows of text as a table, and numbers as one reads them."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[tuple[str, ...]], left: Sequence[int]) -> str:
    """Rows as lines of aligned columns.

    Args:
        rows: The cells, those of the head first.
        left: The columns that are aligned to the left; others are to the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def number(value: float) -> str:
    """A value with four digits that count."""
    return f"{value:.4g}"


def duration(seconds: float) -> str:
    """A time as one reads it: `0.4 s`, `42 s`, `3:05`, `1:02:30`."""
    if seconds < 1.0:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
