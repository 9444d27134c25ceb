"""Which weights of a model are pruned."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import keras

from kopt.pruning._keras import nested_layers

# How layers name the weights that they multiply their input with, or look it up in.
_KERNEL_NAME = re.compile(r"(.*_)?(kernel|embeddings)|w|weights?")


class PruningPolicy(Protocol):
    """Decides which layers are pruned.

    A policy may have `ensure_model_supports_pruning(model)` as well; it raises an
    error where it does not.
    """

    def allow_pruning(self, layer: keras.Layer) -> bool: ...


Selection = Callable[[keras.Layer], bool] | Iterable[keras.Layer | str]


def layers_of_weights(model: keras.Model) -> dict[int, keras.Layer]:
    """The layer of each trainable weight, by the weight's `id`.

    It is the innermost one that has the weight, or the recurrent layer of a cell.
    """
    owners: dict[int, keras.Layer] = {}
    for layer in [model, *nested_layers(model)]:
        for variable in layer.trainable_variables:
            if not (_is_cell(layer) and id(variable) in owners):
                owners[id(variable)] = layer
    return owners


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
    chosen = _chosen(model, selection, owners)
    if policy is not None:
        if hasattr(policy, "ensure_model_supports_pruning"):
            policy.ensure_model_supports_pruning(model)
        allowed = {key for key, layer in owners.items() if policy.allow_pruning(layer)}
        chosen &= allowed
    pruned = [variable for variable in kernels if id(variable) in chosen]
    if not pruned:
        raise ValueError(_nothing_left(selection, policy, kernels, owners))
    return pruned


def is_kernel(variable: keras.Variable) -> bool:
    """Whether a variable is a float matrix, or more, that a layer works with."""
    return bool(
        len(variable.shape) >= 2
        and keras.backend.is_float_dtype(variable.dtype)
        and _KERNEL_NAME.fullmatch(variable.name)
    )


def _chosen(
    model: keras.Model, selection: Selection | None, owners: dict[int, keras.Layer]
) -> set[int]:
    if selection is None:
        return set(owners)
    if isinstance(selection, (str, keras.Layer)):
        selection = [selection]
    if callable(selection):
        return {key for key, layer in owners.items() if selection(layer)}
    chosen: set[int] = set()
    for item in selection:
        for layer in _matching(model, item):
            chosen |= {id(variable) for variable in layer.trainable_variables}
    return chosen


def _matching(model: keras.Model, item: Any) -> Sequence[keras.Layer]:
    layers = nested_layers(model)
    if isinstance(item, str):
        found = [
            layer
            for layer in layers
            if re.fullmatch(item, layer.name) or re.fullmatch(item, layer.path or "")
        ]
    else:
        found = [layer for layer in layers if layer is item]
    if not found:
        known = ", ".join(dict.fromkeys(layer.name for layer in layers))
        raise ValueError(
            "`layers` must be layers of the model, or regular expressions that match "
            f"a whole name or path. Received: {item!r}, which fits none of: {known}."
        )
    return found


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
    return [model, *nested_layers(model)]


def _declared(layer: keras.Layer) -> list[keras.Variable]:
    declare = getattr(layer, "get_prunable_weights", None)
    return list(declare()) if callable(declare) else []


def _is_cell(layer: keras.Layer) -> bool:
    return hasattr(layer, "state_size") and not isinstance(layer, keras.layers.RNN)
