from __future__ import annotations

import warnings
from typing import TypeVar

import keras

from kopt import _checks
from kopt._keras.compiled import forget_compiled_functions
from kopt._keras.layer_tree import with_nested_layers
from kopt._registry import register
from kopt.pruning._carrier import carried, drop, groups_inside
from kopt.pruning._progress import refilled, unfinished, waiting

Model = TypeVar("Model", bound=keras.Model)


@register("pruning", serializable=False)
def strip_pruning(model: Model) -> Model:
    """Take the masks off a model and leave the zeros in.

    What is left is a plain model: its own class, its own constraints, a file that
    loads without kopt. Training it further fills the zeros again. A model that is not
    pruned comes back as it is. A warning says so where the schedule has not come to its
    end, or where weights from before they were pruned are turned to zero once more.

    Args:
        model: A Keras 3 model, changed in place, with the models inside it.

    Returns:
        `model` itself.

    Example:

    >>> model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(10)])
    >>> schedule = kopt.pruning.ConstantSparsity(0.75, begin_step=1)
    >>> model = kopt.pruning.prune_low_magnitude(model, schedule)
    >>> model = kopt.pruning.strip_pruning(model)
    >>> type(model).__name__, float(np.mean(model.weights[0].numpy() == 0))
    ('Sequential', 0.75)
    """
    _checks.keras_model("model", model, built=False)
    groups = groups_inside(model)
    for group in groups:
        group.settle()
    for shortfall in (refilled(groups), waiting(groups) or unfinished(groups)):
        if shortfall is not None:
            warnings.warn(shortfall, stacklevel=2)
    for layer in with_nested_layers(model):
        state = carried(layer)
        if state is None:
            continue
        for group in state.groups:
            group.apply()
        for member in state.members:
            member.variable.constraint = member.inner
        drop(layer)
    # A training step that was compiled before still has the masks.
    forget_compiled_functions(model)
    return model
