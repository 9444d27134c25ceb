from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kopt import _checks
from kopt._charts import bars
from kopt._registry import register
from kopt._text_table import table
from kopt.pruning._group import MaskConstraint, MaskGroup
from kopt.pruning._progress import target
from kopt.pruning._units import UnitPattern
from kopt.pruning._weights import is_kernel


@dataclass(frozen=True)
class WeightSparsity:
    """How many zeros one weight has.

    Args:
        path: The weight's path in the model.
        shape: Its shape.
        size: How many numbers it holds.
        zeros: How many of them are zero.
        pruned: Whether a pruning mask holds them.
        target: The share that the schedule asks for in the end; `None` without a mask.
        target_of: What that is a share of, where not of this weight's numbers: "all
            weights" that are pruned together, or whole "units".
    """

    path: str
    shape: tuple[int, ...]
    size: int
    zeros: int
    pruned: bool
    target: float | None = None
    target_of: str = ""

    @property
    def sparsity(self) -> float:
        """The share of zeros, from 0 to 1."""
        return self.zeros / self.size


@dataclass(frozen=True)
class SparsityReport:
    """Where a model has zeros.

    Args:
        weights: The kernels and embeddings, in the model's order.
        total_size: How many numbers all weights of the model hold, biases and
            statistics included.
        total_zeros: How many of those are zero.
    """

    weights: tuple[WeightSparsity, ...]
    total_size: int
    total_zeros: int

    @property
    def size(self) -> int:
        """How many numbers the kernels and embeddings hold."""
        return sum(weight.size for weight in self.weights)

    @property
    def zeros(self) -> int:
        """How many of those are zero."""
        return sum(weight.zeros for weight in self.weights)

    @property
    def sparsity(self) -> float:
        """The share of zeros in the kernels and embeddings."""
        return self.zeros / self.size if self.size else 0.0

    @property
    def total_sparsity(self) -> float:
        """The share of zeros in all weights of the model."""
        return self.total_zeros / self.total_size

    def plot(self, ax: Any = None) -> Any:
        """Draw the share of zeros, weight by weight.

        Args:
            ax: The matplotlib `Axes` to draw into. By default those of a new figure.

        Returns:
            The `Axes`, to save (`ax.figure.savefig(path)`) or to draw more into.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        ax = bars(
            ax,
            [weight.path for weight in self.weights],
            [weight.sparsity for weight in self.weights],
            labels=[f"{100 * w.sparsity:.0f} % of {w.size:,}" for w in self.weights],
            of=[1.0] * len(self.weights),
        )
        share = f"{100 * self.sparsity:.1f} % of {self.size:,}"
        ax.set(xlabel="share of zeros", xlim=(0, 1), title=f"Zeros: {share}")
        return ax

    def __str__(self) -> str:
        targeted = any(weight.pruned for weight in self.weights)
        head = ("target", "") if targeted else ()
        rows = [("weight", "shape", "size", "zeros", "sparsity", *head)]
        for weight in self.weights:
            shape = "x".join(map(str, weight.shape))
            cells = _target(weight) if targeted else ()
            rows.append((weight.path, shape, *_numbers(weight), *cells))
        empty = ("",) * len(head)
        rows.append(("kernels and embeddings", "", *_numbers(self), *empty))
        total = WeightSparsity("", (), self.total_size, self.total_zeros, False)
        rows.append(("all weights", "", *_numbers(total), *empty))
        return table(rows, left=(0, 6))


@register("pruning", serializable=False)
def sparsity_report(model: keras.Model) -> SparsityReport:
    """Count the zeros in a model's weights, pruned by kopt or not.

    Args:
        model: A built Keras 3 model.

    Returns:
        The counts, weight by weight and as a whole; `print` shows them as a table,
        beside what pruning is asked for in the end, and `plot` as a picture.

    Raises:
        TypeError: If `model` is not a Keras 3 model.
        ValueError: If it is not built.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="d")])
    >>> model.set_weights([np.array([[1, 0], [0, 0], [2, 3]]), np.ones(2)])
    >>> report = kopt.pruning.sparsity_report(model)
    >>> report.sparsity, report.weights[0].zeros
    (0.5, 3)
    """
    _checks.keras_model("model", model)
    weights, total_size, total_zeros = [], 0, 0
    for variable in model.weights:
        values = keras.ops.convert_to_numpy(variable.value)
        zeros = int(values.size - np.count_nonzero(values))
        total_size, total_zeros = total_size + values.size, total_zeros + zeros
        mask = variable.constraint
        pruned = isinstance(mask, MaskConstraint)
        # Whole filters are pruned with their biases; these are no rows of their own.
        if is_kernel(variable) or (pruned and getattr(mask.layout, "is_scored", True)):
            shape = tuple(values.shape)
            asked = _asked(mask.group) if pruned else ()
            weights.append(
                WeightSparsity(variable.path, shape, values.size, zeros, pruned, *asked)
            )
    return SparsityReport(tuple(weights), total_size, total_zeros)


def _numbers(counted: WeightSparsity | SparsityReport) -> tuple[str, str, str]:
    share = f"{100 * counted.sparsity:.1f} %"
    return f"{counted.size:,}", f"{counted.zeros:,}", share


def _asked(group: MaskGroup) -> tuple[float, str]:
    if isinstance(group.pattern, UnitPattern):
        return target(group), "units"
    together = group.shared and len(group.members) > 1
    return target(group), "all weights" if together else ""


def _target(weight: WeightSparsity) -> tuple[str, str]:
    if weight.target is None:
        return "", ""
    share = f"{100 * weight.target:.1f} %"
    return share, f"of {weight.target_of}" if weight.target_of else ""
