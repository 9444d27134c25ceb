"""What gives a sharpness-aware model its training step and lets it be saved."""

from __future__ import annotations

from typing import Any

import keras

from kopt._keras.attached_state import Carrier, put_on, registered, take_off
from kopt._keras.model_state import make_unseeded_generator
from kopt.sharpness._settings import Settings
from kopt.sharpness._state import SharpnessState
from kopt.sharpness._two_passes import train_step


class SharpnessAwareModel(Carrier):
    """Mixed into the class of a model when it is made sharpness-aware."""

    kept_as = "kopt_sharpness"

    def train_step(self: Any, data: Any) -> Any:
        state = carried(self)
        if state is None:
            return super().train_step(data)  # type: ignore[misc]
        return train_step(self, state, data)

    def make_train_function(self: Any, force: bool = False) -> Any:
        state = carried(self)
        if state is not None:
            # Here the model is built, and no graph is being made yet.
            make_unseeded_generator()
            state.match(self)
        return super().make_train_function(force)  # type: ignore[misc]

    @classmethod
    def carried_config(cls, model: keras.Model, carried: SharpnessState) -> Any:
        return carried.settings.get_config()

    @classmethod
    def carry_again(cls, model: keras.Model, config: Any) -> None:
        carry(model, Settings.from_config(config))


def carry(model: keras.Model, settings: Settings) -> None:
    """Make a model sharpness-aware; what an earlier call kept is forgotten."""
    state = SharpnessState(settings)
    put_on(model, SharpnessAwareModel, state)
    if model.built:
        state.match(model)


def carried(model: keras.Layer) -> SharpnessState | None:
    """The state of a sharpness-aware model, or `None`."""
    return getattr(model, SharpnessAwareModel.kept_as, None)


def drop(model: keras.Model) -> None:
    """Give a model its own class back."""
    take_off(model, SharpnessAwareModel)


# A fresh process has made no model sharpness-aware yet when it loads a file.
registered(SharpnessAwareModel, SharpnessAwareModel.__name__)
