"""Clustered weights that hold, for a while, the values that they compute with.

Who reads the variables themselves, a converter or whoever rounds weights to a grid,
would otherwise get the weights behind the centroids. Moving those can also bring one
of them to another centroid.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from kopt._keras.layer_tree import with_nested_layers
from kopt.clustering._hook import ClusteredCall
from kopt.clustering._weight import ClusteredWeight


@contextmanager
def centroids_written(model: keras.Model) -> Iterator[None]:
    """Inside, the weights of a model hold their centroids, and none is looked up.

    On leaving, every weight is back as it was, to the bit, also after an exception.
    What was compiled before goes on looking up, which finds the same values.
    """
    weights = [weight for weight in clustered_weights(model) if not weight.written]
    before = [weight.variable.numpy() for weight in weights]
    try:
        for weight in weights:
            weight.variable.assign(weight.values())
            weight.written = True
        yield
    finally:
        for weight, value in zip(weights, before, strict=True):
            weight.written = False
            weight.variable.assign(value)


def clustered_weights(model: keras.Model) -> list[ClusteredWeight]:
    """The clustered weights in a model, whichever model they were clustered in."""
    found = {}
    for layer in with_nested_layers(model):
        call = vars(layer).get("call")
        if isinstance(call, ClusteredCall):
            found.update({id(weight): weight for weight in call.weights})
    return list(found.values())
