"""What tells one run from another, so that a backup is not taken for another run's."""

from __future__ import annotations

import json
import re
from typing import Any

import keras


def of_run(model: keras.Model, data: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run that is about to begin.

    Args:
        model: A compiled model.
        data: What `FitData.description` says.
    """
    found = {name: _text(value) for name, value in data.items()}
    found["loss"] = _text(getattr(model, "loss", None))
    optimizer = model.optimizer
    if optimizer is None:
        return found
    kind = found["optimizer"] = type(optimizer).__name__
    # Training moves the numbers: they are settings before the first step alone.
    is_new = not optimizer.built or not int(optimizer.iterations.numpy())
    for name, value in _config(optimizer).items() if is_new else ():
        found[f"{kind}({name}=...)"] = _text(value)
    return found


def differences(here: dict[str, Any], there: dict[str, Any]) -> list[str]:
    """What differs between two runs, as words for a message."""
    return [
        f"{name} was {_shown(there[name])} and is {_shown(here[name])}"
        for name in there
        if name in here and here[name] != there[name]
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


def _shown(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
