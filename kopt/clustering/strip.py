from __future__ import annotations

from typing import TypeVar

import keras

from kopt import _checks
from kopt._keras.compiled import forget_compiled_functions
from kopt._registry import register
from kopt.clustering._carrier import carried_inside, drop

Model = TypeVar("Model", bound=keras.Model)


@register("clustering", serializable=False)
def strip_clustering(model: Model) -> Model:
    """Write the centroids into the weights, and take the clustering off.

    What is left is a plain model with few different values in each weight, to save,
    export or quantize. Training it further would move them apart again. It has to be
    compiled anew, for the centroids are no longer among its variables. A model that is
    not clustered comes back as it is.

    Args:
        model: A Keras 3 model, changed in place, with the models inside it.

    Returns:
        `model` itself.

    Raises:
        TypeError: If `model` is not a Keras 3 model.

    Example:

    >>> model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(10)])
    >>> model = kopt.clustering.cluster_weights(model, 8, "LINEAR")
    >>> before = model.predict(np.ones((2, 20)), verbose=0)
    >>> model = kopt.clustering.strip_clustering(model)
    >>> bool(np.all(model.predict(np.ones((2, 20)), verbose=0) == before))
    True
    >>> type(model).__name__, len(np.unique(model.layers[0].kernel))
    ('Sequential', 8)
    """
    _checks.keras_model("model", model, built=False)
    for one, state in carried_inside(model):
        for weight in state.weights:
            weight.variable.assign(weight.values())
        drop(one, state)
    forget_compiled_functions(model)
    return model
