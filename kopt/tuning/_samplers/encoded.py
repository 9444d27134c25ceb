"""Trials as rows of numbers, with names that a trial does not have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna import distributions

from kopt.tuning._samplers.unit import from_unit, snapped, to_unit

Array = np.ndarray


class Encoding:
    """A row for each configuration: numbers in [0, 1], choices by their place.

    A name that a configuration does not have is NaN in its row.

    Args:
        space: The distribution of every name.
        configurations: Those that were tried, from which is read which names go with
            which values.
    """

    def __init__(
        self,
        space: Mapping[str, distributions.BaseDistribution],
        configurations: Sequence[Mapping[str, Any]],
    ):
        self.space = dict(space)
        self.choices = np.array(
            [
                len(one.choices)
                if isinstance(one, distributions.CategoricalDistribution)
                else 0
                for one in self.space.values()
            ],
            dtype=int,
        )
        self._conditions = self._read_conditions(configurations)

    def rows(self, configurations: Iterable[Mapping[str, Any]]) -> Array:
        """The rows of configurations; a value outside of its range counts as absent."""
        return np.array(
            [[self._number(one, name) for name in self.space] for one in configurations]
        ).reshape(-1, len(self.space))

    def configuration(self, row: Array) -> dict[str, Any]:
        """The values of a row, those of absent names left out."""
        found = {}
        for number, (name, distribution) in zip(row, self.space.items(), strict=True):
            if np.isnan(number):
                continue
            if isinstance(distribution, distributions.CategoricalDistribution):
                found[name] = distribution.choices[int(number)]
            else:
                found[name] = from_unit(distribution, number)
        return found

    def completed(self, rows: Array) -> Array:
        """Rows of numbers for all names, with NaN where a name would be absent.

        Numbers move to the values that their names can have.
        """
        rows = rows.copy()
        for column, distribution in enumerate(self.space.values()):
            if not self.choices[column]:
                rows[:, column] = snapped(distribution, rows[:, column])
        for column, parent, values in self._conditions:
            present = np.isin(np.round(rows[:, parent], 9), values)
            rows[~present, column] = np.nan
        return rows

    def _number(self, configuration: Mapping[str, Any], name: str) -> float:
        if name not in configuration:
            return np.nan
        distribution, value = self.space[name], configuration[name]
        if isinstance(distribution, distributions.CategoricalDistribution):
            return float(distribution.to_internal_repr(value))
        return min(max(to_unit(distribution, value), 0.0), 1.0)

    def _read_conditions(
        self, configurations: Sequence[Mapping[str, Any]]
    ) -> list[tuple[int, int, list[float]]]:
        """For each name that is not always there, the name and values that bring it.

        The first name with values that tell the trials that have it from those that do
        not. Where no single name does, the name counts as always there.
        """
        rows = np.round(self.rows(configurations), 9)
        found = []
        for column in range(rows.shape[1]):
            there = ~np.isnan(rows[:, column])
            if there.all() or not there.any():
                continue
            for parent in range(rows.shape[1]):
                with_it = set(rows[there, parent])
                without = set(rows[~there, parent])
                if parent != column and not np.isnan([*with_it]).any():
                    if not with_it & without:
                        found.append((column, parent, sorted(with_it)))
                        break
        return found


def differences(first: Array, second: Array, choices: Array) -> Array:
    """How far apart two sets of rows are, name by name.

    Returns:
        An array of shape `(names, rows of the first, rows of the second)`: squared
        differences of numbers; 1 for two choices that are not the same, and for a name
        that only one of the two has.
    """
    one, other = first.T[:, :, None], second.T[:, None, :]
    apart = np.where(choices[:, None, None] > 0, one != other, (one - other) ** 2)
    absent_one, absent_other = np.isnan(one), np.isnan(other)
    apart = np.where(absent_one | absent_other, 1.0, apart)
    return np.where(absent_one & absent_other, 0.0, apart)
