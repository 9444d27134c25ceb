"""Errors of a search. Each says what to do about it."""

from __future__ import annotations


class SpaceError(ValueError):
    """A search space that the study or the sampler cannot take."""


class ObjectiveError(ValueError):
    """An objective that training does not log."""


class StorageError(OSError):
    """A study that cannot be reached, or that another search holds."""


class SearchError(RuntimeError):
    """A search that cannot go on, or that has nothing to show."""
