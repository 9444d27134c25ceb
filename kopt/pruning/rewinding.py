from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import keras
import numpy as np

from kopt import _checks
from kopt._registry import register
from kopt.pruning._carrier import groups_inside

Model = TypeVar("Model", bound=keras.Model)


@register("pruning", serializable=False)
def rewind(model: Model, weights: Sequence[np.ndarray]) -> Model:
    """Take a pruned model back to earlier weights, and keep what is pruned now.

    A network that is pruned after training and trained again from (nearly) where it
    began is a lottery ticket: it often reaches what the whole network reached.
    Compile the model again, so that the optimizer begins anew too.

    Args:
        model: A pruned model. It is changed in place.
        weights: What `model.get_weights()` gave early in training, before or after the
            model was pruned.

    Returns:
        `model` itself.

    Raises:
        TypeError: If `model` is not a Keras 3 model.
        ValueError: If it is not pruned, or the weights are of another model.

    References:
        Frankle & Carbin, 2018, "The Lottery Ticket Hypothesis: Finding Sparse,
        Trainable Neural Networks", arXiv:1803.03635.
        Frankle et al., 2019, "Stabilizing the Lottery Ticket Hypothesis" (rewinding to
        an early step), arXiv:1903.01611.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> early = [np.array([[1.0], [2.0], [3.0]]), np.zeros(1)]
    >>> model.set_weights([np.array([[5.0], [0.1], [-4.0]]), np.ones(1)])  # trained
    >>> schedule = kopt.pruning.OneShot(1 / 3)
    >>> model = kopt.pruning.prune_low_magnitude(model, schedule)
    >>> model = kopt.pruning.rewind(model, early)
    >>> model.get_weights()[0].ravel()
    array([1., 0., 3.], dtype=float32)
    """
    _checks.keras_model("model", model)
    groups = groups_inside(model)
    if not groups:
        raise ValueError(
            f"{model.name!r} is not pruned, so there are no masks to keep. Call "
            "`kopt.pruning.prune_low_magnitude(model)` first, or use "
            "`model.set_weights(weights)`."
        )
    shapes = [tuple(variable.shape) for variable in model.weights]
    given = [np.shape(weight) for weight in weights]
    if given != shapes:
        raise ValueError(
            "`weights` must be what `model.get_weights()` gave earlier in training. "
            f"Received arrays of shapes {given}; the model's are {shapes}."
        )
    for group in groups:
        group.settle()
    model.set_weights(list(weights))
    for group in groups:
        group.begin_anew()
    return model
