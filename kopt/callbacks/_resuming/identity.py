"""What tells one run from another, so that a backup is not taken for another run's."""

from __future__ import annotations

import json
import re
from typing import Any

import keras


def of_run(model: keras.Model, data: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run that has not moved anything yet.

    Args:
        model: A compiled model.
        data: What `FitData.description` says.
    """
    found = {name: _text(value) for name, value in data.items()}
    found["loss"] = _text(getattr(model, "loss", None))
    optimizer = model.optimizer
    if optimizer is not None:
        found["optimizer"] = type(optimizer).__name__
        config = _config(optimizer)
        for name, value in config.items():
            found[f"{type(optimizer).__name__}({name}=...)"] = _text(value)
    return found


def differences(here: dict[str, Any], there: dict[str, Any]) -> list[str]:
    """What differs between two runs, as words for a message."""
    return [
        f"{name} was {_shown(there.get(name))} and is {_shown(here.get(name))}"
        for name in dict.fromkeys([*there, *here])
        if here.get(name) != there.get(name)
    ]


def _config(thing: Any) -> dict[str, Any]:
    try:
        return thing.get_config()
    except (NotImplementedError, TypeError, ValueError):
        return {}  # An object of the user's own need not have one.


def _text(value: Any) -> str:
    """A setting as text that is the same in each process."""
    try:
        text = json.dumps(keras.saving.serialize_keras_object(value), default=_kind)
    except (NotImplementedError, TypeError, ValueError):
        text = _kind(value)
    # Keras counts the names that it gives: a model made twice has other ones.
    return re.sub(r"_\d+(?=[\"/])", "", text)


def _kind(value: Any) -> str:
    # Not its text, which may have an address in it.
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _shown(text: str | None) -> str:
    if text is None:
        return "not there"
    return text if len(text) <= 80 else f"{text[:77]}..."
