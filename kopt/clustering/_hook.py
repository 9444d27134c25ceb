"""Layers that compute with clustered weights, whoever calls them.

Every layer that has a clustered weight inside, the whole model among them, gets a
`call` that computes its clustered weights first and lets the variables inside read as
these. What an outer layer has computed holds for the inner ones, so that a weight is
clustered once a step, also where it is used outside of its layer, in a loop, or twice.
A layer that is called alone, or in another model, does it for itself.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import keras

from kopt._keras.caught_losses import add_again
from kopt._keras.layer_tree import with_nested_layers
from kopt.clustering._weight import ClusteredWeight


class ClusteredScope(keras.StatelessScope):
    """Inside, clustered weights read as their centroids. All else is as outside.

    Args:
        weights: The weights to cluster.
    """

    def __init__(self, weights: Iterable[ClusteredWeight]) -> None:
        # Keras drops the losses of layers in a scope that does not collect them.
        super().__init__(collect_losses=True, initialize_variables=False)
        # Not as an argument: Keras would cast them as mixed precision has it now.
        self.state_mapping = {id(one.variable): one.values() for one in weights}

    def replaces(self, weight: ClusteredWeight) -> bool:
        return id(weight.variable) in self.state_mapping

    def get_current_value(self, variable: keras.Variable) -> Any:
        value = super().get_current_value(variable)
        if value is None and self.original_scope is not None:
            return self.original_scope.get_current_value(variable)
        return value

    def add_update(self, update: tuple[keras.Variable, Any]) -> None:
        # At once: at the end of the scope a value from inside a loop is out of reach.
        variable, value = update
        if id(variable) in self.state_mapping:
            super().add_update(update)
        super().__exit__()
        try:
            variable.assign(value)
        finally:
            super().__enter__()


class ClusteredCall:
    """The `call` of a layer with clustered weights inside."""

    def __init__(self, layer: keras.Layer) -> None:
        self.layer = layer
        self.weights: list[ClusteredWeight] = []
        functools.update_wrapper(self, layer.call)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        open_scopes = _clustered_scopes()
        weights = [
            weight
            for weight in self.weights
            if not weight.written
            and not any(scope.replaces(weight) for scope in open_scopes)
        ]
        # The class may have changed since: a quantized layer's has.
        call = type(self.layer).call
        if not weights:
            return call(self.layer, *args, **kwargs)
        with ClusteredScope(weights) as scope:
            outputs = call(self.layer, *args, **kwargs)
        add_again(self.layer, scope.losses)
        return outputs


def hook(model: keras.Model, weights: Iterable[ClusteredWeight]) -> None:
    """Let a model and the layers inside compute with clustered weights."""
    for layer in with_nested_layers(model):
        inside = {id(variable) for variable in layer.variables}
        own = [weight for weight in weights if id(weight.variable) in inside]
        if own:
            # Past `__setattr__`, which would keep track of it. An attribute, for a
            # new class would be in the configurations of all models around it.
            call = vars(layer).get("call") or ClusteredCall(layer)
            call.weights += own
            vars(layer)["call"] = call


def unhook(model: keras.Model, weights: Iterable[ClusteredWeight]) -> None:
    """Undo `hook`."""
    gone = {id(weight) for weight in weights}
    for layer in with_nested_layers(model):
        call = vars(layer).get("call")
        if isinstance(call, ClusteredCall):
            call.weights = [one for one in call.weights if id(one) not in gone]
            if not call.weights:
                del vars(layer)["call"]


def _clustered_scopes() -> list[ClusteredScope]:
    """The scopes around us, inner ones first."""
    # Entering a scope is the public way to learn of the one around it.
    with keras.StatelessScope(initialize_variables=False) as probe:
        scope = probe.original_scope
    scopes = []
    while scope is not None:
        if isinstance(scope, ClusteredScope):
            scopes.append(scope)
        scope = scope.original_scope
    return scopes
