"""Argument checks shared by all areas.

Each check returns the value it was given, or raises an error that names the
argument, the rule, the value received and what to do.
"""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kopt._keras.layer_tree import nested_layers
from kopt._keras.lora import adapted_layers
from kopt._keras.two_versions import is_older


def number(
    name: str,
    value: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    low_open: bool = False,
    high_open: bool = False,
    hint: str = "",
) -> float:
    """A finite real number, between `low` and `high` where these are given."""
    rule = _range_rule(low, high, low_open, high_open)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(_message(name, f"a number{rule}", value, hint))
    amount = float(value)
    outside = (
        not math.isfinite(amount)
        or (low is not None and (amount < low or (low_open and amount == low)))
        or (high is not None and (amount > high or (high_open and amount == high)))
    )
    if outside:
        raise ValueError(_message(name, f"a finite number{rule}", value, hint))
    return amount


def integer(name: str, value: Any, *, low: int | None = None, hint: str = "") -> int:
    """A whole number, at least `low` where that is given."""
    rule = "" if low is None else f" of at least {low}"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(_message(name, f"a whole number{rule}", value, hint))
    if low is not None and value < low:
        raise ValueError(_message(name, f"a whole number{rule}", value, hint))
    return int(value)


def one_of(name: str, value: Any, choices: Sequence[Any], hint: str = "") -> Any:
    """One of a few accepted values."""
    if value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(_message(name, f"one of {listed}", value, hint))
    return value


def keras_model(name: str, model: Any, *, built: bool = True) -> keras.Model:
    """A Keras 3 model, built unless `built` is false."""
    if not isinstance(model, keras.Model):
        hint = "Pass a keras.Model."
        if is_older(model):
            hint = (
                "This is a model of the older tf_keras. Rebuild it with `import "
                "keras` (Keras 3) and copy the weights with `set_weights`."
            )
        raise TypeError(_message(name, "a Keras 3 model", type(model), hint))
    # A model without weights: a graph of operations, or layers that were all called.
    complete = model.weights or getattr(model, "inputs", None) or _has_run(model)
    if built and not (model.built and complete):
        hint = (
            "Build it first: give it an `Input`, call `model.build(input_shape)`, or "
            "call the model once on a batch."
        )
        raise ValueError(_message(name, "a built model", model, hint))
    return model


def finite_weights(name: str, model: keras.Model) -> keras.Model:
    """A model without NaN or infinity in its weights."""
    for variable in model.weights:
        values = keras.ops.convert_to_numpy(variable.value)
        if np.issubdtype(values.dtype, np.integer) or values.dtype == bool:
            continue
        if not np.isfinite(values.astype("float32")).all():
            raise ValueError(
                f"`{name}` has NaN or infinite values in {variable.path!r}. Restore a "
                "checkpoint from before the training diverged, or lower the learning "
                "rate."
            )
    return model


def no_adapters(name: str, model: keras.Model) -> keras.Model:
    """A model whose kernels are all that its layers multiply with."""
    layers = [layer.name for layer in adapted_layers(model)]
    if layers:
        raise ValueError(
            f"`{name}` has low-rank adapters (LoRA) beside the kernels of "
            f"{', '.join(map(repr, layers))}. Add them to the kernels first: "
            "`kopt.merge_lora(model)`."
        )
    return model


def writable_path(name: str, path: Any) -> Path:
    """A path whose folder exists and takes a new file."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(_message(name, "a path", path, "Pass a string or a Path."))
    target = Path(path)
    folder = target.parent
    if not folder.is_dir():
        raise ValueError(
            _message(name, "in a folder that exists", str(path), f"Create {folder}.")
        )
    if not os.access(folder, os.W_OK):
        raise PermissionError(
            _message(name, "in a folder that can be written", str(path), "")
        )
    return target


def _range_rule(
    low: float | None, high: float | None, low_open: bool, high_open: bool
) -> str:
    parts = []
    if low is not None:
        parts.append(f"{'greater than' if low_open else 'at least'} {low:g}")
    if high is not None:
        parts.append(f"{'less than' if high_open else 'at most'} {high:g}")
    return f" {' and '.join(parts)}" if parts else ""


def _message(name: str, rule: str, value: Any, hint: str) -> str:
    text = f"`{name}` must be {rule}. Received: {name}={value!r}."
    return f"{text} {hint}".rstrip()


def _has_run(model: keras.Model) -> bool:
    layers = nested_layers(model)
    return bool(layers) and all(layer.built for layer in layers)
