"""What lets a pruned model be saved with its masks and their schedules."""

from __future__ import annotations

from typing import Any

import keras

from kopt._keras.attached_state import Carrier, put_on, registered, take_off
from kopt.pruning._state import PruningState, groups_from_config


class PrunedModel(Carrier):
    """Mixed into the class of a model when it is pruned."""

    kept_as = "kopt_pruning"

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
        for group in state.groups:
            group.start()


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


def drop(model: keras.Model) -> None:
    """Give a model its own class back."""
    take_off(model, PrunedModel)


# A fresh process has not pruned anything yet when it loads a file.
registered(PrunedModel, PrunedModel.__name__)
