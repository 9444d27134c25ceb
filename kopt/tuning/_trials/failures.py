"""Failures of a worker's trials, one after the other."""

from __future__ import annotations

from kopt.tuning._trials.errors import SearchError
from kopt.tuning._trials.recorder import TrialFailed

_IN_A_ROW = 10


class Failures:
    """How many trials in a row have failed, and why the first one did."""

    def __init__(self) -> None:
        self._count = 0
        self._first: TrialFailed | None = None

    def note(self, failure: TrialFailed) -> None:
        """Take note of a failure."""
        self._count += 1
        self._first = self._first or failure

    def clear(self) -> None:
        """Begin to count again, after a trial that did not fail."""
        self._count, self._first = 0, None

    def check(self) -> None:
        """Raises `SearchError` after ten in a row, with the first one's reason."""
        if self._count >= _IN_A_ROW and self._first:
            raise SearchError(
                f"{self._count} trials in a row failed. The first one: "
                f"{self._first.reason} The study keeps the reason of each."
            ) from self._first
