from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kopt import _checks
from kopt._charts import bars
from kopt._registry import register
from kopt._text_table import table
from kopt._weights import is_kernel
from kopt.clustering._carrier import carried_inside


@dataclass(frozen=True)
class WeightClusters:
    """How many different values one weight has, and what that saves.

    Args:
        path: The weight's path in the model.
        shape: Its shape.
        size: How many numbers it holds.
        distinct: How many different values these have.
        entropy: Bits that a number takes on average where frequent values get short
            codes (Shannon).
        byte_size: Bytes of its numbers as they are.
        compressed_size: Bytes of its numbers after compression, by the method of gzip
            and zip files, as measured.
        clusters: How many values it may have (each channel, where `channels` is more
            than 1), or `None` where kopt does not hold it clustered.
        channels: How many sets of centroids it has.
        note: What else there is to say.
    """

    path: str
    shape: tuple[int, ...]
    size: int
    distinct: int
    entropy: float
    byte_size: int
    compressed_size: int
    clusters: int | None = None
    channels: int = 1
    note: str = ""


@dataclass(frozen=True)
class ClusteringReport:
    """How many different values the weights of a model have.

    Args:
        weights: The kernels and embeddings, in the model's order.
    """

    weights: tuple[WeightClusters, ...]

    @property
    def size(self) -> int:
        """How many numbers the kernels and embeddings hold."""
        return sum(weight.size for weight in self.weights)

    @property
    def byte_size(self) -> int:
        """Bytes of these numbers as they are."""
        return sum(weight.byte_size for weight in self.weights)

    @property
    def compressed_size(self) -> int:
        """Bytes of these numbers after compression, weight by weight."""
        return sum(weight.compressed_size for weight in self.weights)

    @property
    def entropy(self) -> float:
        """Bits that a number takes on average, each weight with codes of its own."""
        bits = sum(weight.entropy * weight.size for weight in self.weights)
        return bits / self.size if self.size else 0.0

    def plot(self, ax: Any = None) -> Any:
        """Draw the bits that a number of each weight takes, of those that it has.

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
            [weight.entropy for weight in self.weights],
            labels=[f"{w.distinct:,} values of {w.size:,}" for w in self.weights],
            of=[8 * weight.byte_size / weight.size for weight in self.weights],
        )
        title = f"{self.byte_size:,} bytes, {self.compressed_size:,} compressed"
        ax.set(xlabel="entropy of a number (bits)", title=title)
        return ax

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [_HEADING]
        for one in self.weights:
            shape = "x".join(map(str, one.shape))
            row = (one.path, shape, f"{one.distinct:,}", *_numbers(one), _state(one))
            rows.append(row)
        rows.append(("kernels and embeddings", "", "", *_numbers(self), ""))
        return table(rows, left=(0, len(_HEADING) - 1))


_HEADING = ("weight", "shape", "values", "bits", "bytes", "compressed", "")


@register("clustering", serializable=False)
def clustering_report(model: keras.Model) -> ClusteringReport:
    """Count the different values in a model's weights, clustered by kopt or not.

    Of a clustered model it counts what `strip_clustering` would leave.

    Args:
        model: A built Keras 3 model.

    Returns:
        The counts, weight by weight and as a whole; `print` shows them as a table and
        `plot` as a picture.

    Raises:
        TypeError: If `model` is not a Keras 3 model.
        ValueError: If it is not built.

    Example:

    >>> model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(30)])
    >>> kopt.clustering.clustering_report(model).weights[0].distinct > 1000
    True
    >>> model = kopt.clustering.cluster_weights(model, 8)
    >>> report = kopt.clustering.clustering_report(model)
    >>> report.weights[0].distinct, report.byte_size > 4 * report.compressed_size
    (8, True)
    """
    _checks.keras_model("model", model)
    states = [state for _, state in carried_inside(model)]
    clustered = {id(one.variable): one for state in states for one in state.weights}
    small = {id(variable) for state in states for variable in state.too_small}
    described = []
    for variable in model.weights:
        weight = clustered.get(id(variable))
        if weight is not None:
            clusters, channels = weight.settings.number_of_clusters, weight.rows.number
            kept = dict(clusters=clusters, channels=channels)
            described.append(_describe(variable, weight.values(), **kept))
        elif is_kernel(variable):
            note = "too small to cluster" if id(variable) in small else ""
            described.append(_describe(variable, variable.value, note=note))
    return ClusteringReport(tuple(described))


def _describe(variable: keras.Variable, values: Any, **more: Any) -> WeightClusters:
    numbers = keras.ops.convert_to_numpy(values)
    _, counts = np.unique(numbers, return_counts=True)
    shares = counts / numbers.size
    raw = numbers.tobytes()
    return WeightClusters(
        path=variable.path,
        shape=tuple(numbers.shape),
        size=numbers.size,
        distinct=counts.size,
        entropy=float(-(shares * np.log2(shares)).sum()) + 0.0,
        byte_size=len(raw),
        compressed_size=len(zlib.compress(raw)),
        **more,
    )


def _numbers(one: WeightClusters | ClusteringReport) -> tuple[str, str, str]:
    return f"{one.entropy:.2f}", f"{one.byte_size:,}", f"{one.compressed_size:,}"


def _state(one: WeightClusters) -> str:
    if one.clusters is None:
        return one.note
    channels = f" in each of {one.channels} channels" if one.channels > 1 else ""
    return f"clustered to {one.clusters}{channels}"
