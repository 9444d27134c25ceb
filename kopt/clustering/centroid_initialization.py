from __future__ import annotations

import enum
from typing import Any

from kopt._registry import register


@register("clustering", serializable=False)
class CentroidInitialization(enum.StrEnum):
    """Where the values that a weight is allowed to have lie at first.

    TensorFlow Model Optimization's enum is accepted in its place, and so are the names
    as strings. Training moves the values from there.

    - `LINEAR`: evenly between the smallest and the largest weight. Large weights, which
      matter most, keep values of their own.
    - `RANDOM`: at random between the smallest and the largest weight.
    - `DENSITY_BASED`: so that about as many weights come to each.
    - `KMEANS_PLUS_PLUS`: on weights that k-means++ draws, each far from those before.

    References:
        Arthur & Vassilvitskii, 2007, "k-means++: The Advantages of Careful Seeding".
        Han, Mao & Dally, 2016, "Deep Compression" (linear, random and density-based),
        arXiv:1510.00149.

    Example:

    >>> kopt.clustering.CentroidInitialization.LINEAR.name
    'LINEAR'
    """

    # The texts by which TensorFlow Model Optimization's members compare equal.
    LINEAR = "CentroidInitialization.LINEAR"
    RANDOM = "CentroidInitialization.RANDOM"
    DENSITY_BASED = "CentroidInitialization.DENSITY_BASED"
    KMEANS_PLUS_PLUS = "CentroidInitialization.KMEANS_PLUS_PLUS"


def checked_initialization(name: str, value: Any) -> CentroidInitialization:
    """A `CentroidInitialization` from what a user may write for it."""
    if isinstance(value, str):
        # An enum's own text starts with its class, a plain string need not.
        text = value.value if isinstance(value, enum.Enum) else value
        known = CentroidInitialization.__members__
        found = known.get(str(text).rpartition(".")[2].upper())
        if found is not None:
            return found
    listed = ", ".join(CentroidInitialization.__members__)
    raise ValueError(
        f"`{name}` must be a CentroidInitialization: {listed}. Received: "
        f"{name}={value!r}."
    )
