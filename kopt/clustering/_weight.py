"""One clustered weight: its variable, its centroids, and what they make together."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from kopt._keras.attached_state import mark_as_added
from kopt._keras.autocast import uncast
from kopt._keras.sublayers import add_sublayer, remove_sublayer
from kopt.clustering._assignment import clustered
from kopt.clustering._initial_centroids import initial_centroids
from kopt.clustering._rows import Rows, rows_of
from kopt.clustering.centroid_initialization import CentroidInitialization

Tensor = Any


@dataclass(frozen=True)
class Settings:
    """How weights are clustered: the arguments of `cluster_weights`."""

    number_of_clusters: int
    initialization: CentroidInitialization
    preserve_sparsity: bool
    per_channel: bool
    average: bool


class Centroids(keras.layers.Layer):
    """The part that a layer with a clustered weight has more than another.

    It is a layer for its variables' sake: Keras trains, freezes and saves them.

    Args:
        rows: How many sets of centroids there are.
        count: How many centroids a set has.
        mask_shape: The shape of a mask of weights that are not held at zero, or
            `None` for no such mask.
    """

    def __init__(
        self, rows: int, count: int, mask_shape: tuple[int, ...] | None, **kwargs: Any
    ) -> None:
        super().__init__(dtype="float32", **kwargs)
        self._matrix = (rows, count)
        # As a vector: some optimizers treat a matrix as a whole.
        self.centroids = mark_as_added(
            self.add_weight(
                shape=(rows * count,),
                initializer="zeros",
                autocast=False,
                name="centroids",
            )
        )
        self.mask = None
        if mask_shape is not None:
            self.mask = mark_as_added(
                self.add_weight(
                    shape=mask_shape,
                    initializer="zeros",
                    dtype="bool",
                    trainable=False,
                    autocast=False,
                    name="mask",
                )
            )
        self.built = True

    @property
    def matrix(self) -> Tensor:
        """The centroids, a row for each set."""
        return ops.reshape(self.centroids, self._matrix)

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        if not len(store.keys()):
            raise ValueError(
                "The file has weights but no centroids. Load it into the model before "
                "`kopt.clustering.cluster_weights`, or after "
                "`kopt.clustering.strip_clustering`."
            )
        super().load_own_variables(store)


class ClusteredWeight:
    """A variable whose layer computes with centroids in place of its numbers.

    The variable itself keeps numbers of its own: they are trained, to decide which
    centroid each of them has.

    Args:
        variable: The variable.
        owner: The layer that it belongs to.
        settings: How it is clustered.
    """

    def __init__(
        self, variable: keras.Variable, owner: keras.Layer, settings: Settings
    ) -> None:
        self.variable = variable
        self.owner = owner
        self.settings = settings
        # Inside of layers with mixed precision a variable gives another type.
        self.dtype = variable.dtype
        self.rows = layout(variable, owner, settings)
        self._attribute = ""
        # Whether the variable itself holds the centroids for now.
        self.written = False

    def attach(self) -> None:
        """Give the owner variables for the centroids; they are zeros for now."""
        shape = self.rows.shape if self.settings.preserve_sparsity else None
        strategy = getattr(self.variable.value, "distribute_strategy", None)
        with strategy.scope() if strategy else nullcontext():
            self.centroids = Centroids(
                self.rows.number,
                self.settings.number_of_clusters,
                shape,
                name=f"{self.variable.path.replace('/', '_')}_clusters",
            )
        number = 0
        while hasattr(self.owner, f"clusters_{number}"):
            number += 1
        self._attribute = f"clusters_{number}"
        add_sublayer(self.owner, self._attribute, self.centroids)

    def detach(self) -> None:
        """Undo `attach`."""
        remove_sublayer(self.owner, self._attribute)

    def start(self) -> None:
        """Place the first centroids."""
        numbers = ops.convert_to_numpy(self._numbers())
        first = initial_centroids(
            ops.convert_to_numpy(self.rows.of(numbers)),
            self.settings.number_of_clusters,
            self.settings.initialization,
            around_zero=self.settings.preserve_sparsity,
        )
        self.centroids.centroids.assign(first.reshape(-1))
        if self.centroids.mask is not None:
            # Also what comes to the centroid at zero is held there from now on.
            self.centroids.mask.assign(np.ones(self.rows.shape, "bool"))
            self.centroids.mask.assign(ops.not_equal(self.values(), 0))

    def values(self) -> Tensor:
        """The weight as its layer computes with it, in the variable's own type."""
        with uncast():
            numbers, centroids = self._numbers(), self.centroids.matrix
            if self.centroids.mask is not None:
                mask = ops.cast(self.centroids.mask, "float32")
                numbers = numbers * mask
                # A centroid at zero stays there: no gradient reaches it.
                centroids = centroids * ops.cast(ops.not_equal(centroids, 0), "float32")
            rows = self.rows.of(numbers)
            looked_up = clustered(rows, centroids, average=self.settings.average)
            return ops.cast(self.rows.weight(looked_up), self.dtype)

    def _numbers(self) -> Tensor:
        return ops.cast(self.variable.value, "float32")


def layout(variable: keras.Variable, owner: keras.Layer, settings: Settings) -> Rows:
    """How a weight's numbers share centroids."""
    per_channel = settings.per_channel
    return rows_of(owner, variable.name, variable.shape, per_channel=per_channel)
