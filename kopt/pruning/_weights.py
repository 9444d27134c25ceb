"""Which weights of a model are pruned."""

from __future__ import annotations

from typing import Protocol

import keras

from kopt._keras.layer_tree import with_nested_layers
from kopt._weights import Selection as Selection
from kopt._weights import chosen_weights
from kopt._weights import is_kernel as is_kernel
from kopt._weights import layers_of_weights as layers_of_weights


class PruningPolicy(Protocol):
    """Decides which layers are pruned.

    A policy may have `ensure_model_supports_pruning(model)` as well; it raises an
    error where it does not.
    """

    def allow_pruning(self, layer: keras.Layer) -> bool: ...


def prunable_weights(
    model: keras.Model, selection: Selection | None, policy: PruningPolicy | None
) -> list[keras.Variable]:
    """The kernel-like trainable weights of the chosen layers, in the model's order.

    Raises:
        ValueError: If nothing is left to prune, if a name fits no layer, or if the
            policy does not support the model.
    """
    owners = layers_of_weights(model)
    declared = {id(v) for layer in _with(model) for v in _declared(layer)}
    kernels = [
        variable
        for variable in model.trainable_weights
        if id(variable) in declared or is_kernel(variable)
    ]
    if not kernels:
        raise ValueError(
            f"{model.name!r} has no trainable weight that can be pruned: a float "
            "kernel or embedding of rank 2 or more. Unfreeze layers with "
            "`layer.trainable = True`, or give your own layer a method "
            "`get_prunable_weights()` that returns a list of its variables."
        )
    chosen = chosen_weights(model, selection, owners)
    if policy is not None:
        if hasattr(policy, "ensure_model_supports_pruning"):
            policy.ensure_model_supports_pruning(model)
        allowed = {key for key, layer in owners.items() if policy.allow_pruning(layer)}
        chosen &= allowed
    pruned = [variable for variable in kernels if id(variable) in chosen]
    if not pruned:
        raise ValueError(_nothing_left(selection, policy, kernels, owners))
    return pruned


def _nothing_left(
    selection: Selection | None,
    policy: PruningPolicy | None,
    kernels: list[keras.Variable],
    owners: dict[int, keras.Layer],
) -> str:
    names = dict.fromkeys(owners[id(variable)].name for variable in kernels)
    by = [
        f"`{name}`"
        for name, given in (("layers", selection), ("pruning_policy", policy))
        if given is not None
    ]
    return (
        f"{' and '.join(by)} left nothing to prune. Layers that can be pruned are: "
        f"{', '.join(names)}. A policy of TensorFlow Model Optimization asks for "
        "layers of tf_keras, which a Keras 3 model does not have."
    )


def _with(model: keras.Model) -> list[keras.Layer]:
    return with_nested_layers(model)


def _declared(layer: keras.Layer) -> list[keras.Variable]:
    declare = getattr(layer, "get_prunable_weights", None)
    return list(declare()) if callable(declare) else []
