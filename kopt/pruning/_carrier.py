"""What lets a pruned model be saved with its masks and their schedules."""

from __future__ import annotations

import warnings
from typing import Any

import keras

from kopt._keras.attached_state import Carrier, put_on, registered, take_off
from kopt._keras.layer_tree import with_nested_layers
from kopt.pruning._group import MaskGroup
from kopt.pruning._progress import refilled, waiting
from kopt.pruning._state import PruningState, groups_from_config


class PrunedModel(Carrier):
    """Mixed into the class of a model when it is pruned."""

    kept_as = "kopt_pruning"

    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Train as the model's class does, and say where pruning fell short of it."""
        state = carried(self)
        if state is not None:
            state.settle()
        history = super().fit(*args, **kwargs)  # type: ignore[misc]
        if state is None:
            return history
        for look in (refilled, waiting):
            shortfall = None if look.__name__ in state.said else look(state.groups)
            if shortfall is not None:
                # Once: a model may be trained by many short calls.
                state.said.add(look.__name__)
                warnings.warn(shortfall, stacklevel=2)
        return history

    @classmethod
    def carried_config(cls, model: keras.Model, carried: PruningState) -> Any:
        return carried.get_config(model)

    @classmethod
    def carry_again(cls, model: keras.Model, config: Any) -> None:
        if not model.built:
            raise ValueError(
                f"The pruned model {model.name!r} cannot be built from its file. Give "
                "its class `get_build_config` and `build_from_config`."
            )
        state = carry(model)
        state.groups = groups_from_config(model, config)


def carry(model: keras.Model) -> PruningState:
    """The pruning state of a model, which is made to carry one if it does not yet."""
    state = carried(model)
    if state is None:
        state = PruningState()
        put_on(model, PrunedModel, state)
    return state


def carried(model: keras.Layer) -> PruningState | None:
    """The pruning state of a model, or `None`."""
    return getattr(model, PrunedModel.kept_as, None)


def groups_inside(model: Any) -> list[MaskGroup]:
    """The mask groups of a model and of the models inside it."""
    states = [carried(layer) for layer in with_nested_layers(model)]
    return [group for state in states if state for group in state.groups]


def drop(model: keras.Model) -> None:
    """Give a model its own class back."""
    take_off(model, PrunedModel)


# A fresh process has not pruned anything yet when it loads a file.
registered(PrunedModel, PrunedModel.__name__)
