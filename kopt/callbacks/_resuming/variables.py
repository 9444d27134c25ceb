"""All variables that training moves, read and set again in another process."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from kopt._keras.model_state import make_unseeded_generator, model_state


def present(model: keras.Model) -> dict[str, Any]:
    """Names and values of all that training moves.

    The model's state (weights, statistics, metrics, seeds, states of recurrent layers,
    what is attached to it) and that of its optimizers.
    """
    found = _variables(model)
    return {
        "names": [_name(variable) for variable in found],
        "values": values(found),
    }


def check(model: keras.Model, saved: dict[str, Any]) -> None:
    """Refuse the variables of another model.

    Raises:
        ValueError: If they differ in number, name, shape or type.
    """
    here = [_described(_name(one), one) for one in _variables(model)]
    pairs = zip(saved["names"], saved["values"], strict=True)
    there = [_described(name, value) for name, value in pairs]
    if here == there:
        return
    place = next(
        (n for n, (a, b) in enumerate(zip(here, there, strict=False)) if a != b),
        min(len(here), len(there)),
    )
    raise ValueError(
        f"it is of another model: variable {place} is {_at(there, place)} there and "
        f"{_at(here, place)} here, of {len(there)} and {len(here)}."
    )


def bring_back(model: keras.Model, saved: dict[str, Any]) -> None:
    """Set all variables to what `present` gave."""
    assign(_variables(model), saved["values"])


def values(variables: Iterable[Any]) -> list[np.ndarray]:
    """Copies of the values of some variables."""
    # What Keras returns may share the variable's memory.
    return [np.array(keras.ops.convert_to_numpy(one)) for one in variables]


def assign(variables: Iterable[Any], saved: Iterable[np.ndarray]) -> None:
    """Set variables to values, one for each."""
    for variable, value in zip(variables, saved, strict=True):
        variable.assign(value)


def optimizers(model: keras.Model) -> list[keras.optimizers.Optimizer]:
    """The optimizer that a model was compiled with, and others that it holds."""
    held: list[Any] = [model.optimizer]
    for value in vars(model).values():
        if isinstance(value, dict):
            held += value.values()
        else:
            held += value if isinstance(value, (list, tuple)) else [value]
    chosen = [one for one in held if isinstance(one, keras.optimizers.Optimizer)]
    return list({id(one): one for one in chosen}.values())


def _variables(model: keras.Model) -> list[Any]:
    # With the seed generator that `keras.random` uses where no seed is given.
    make_unseeded_generator()
    of_optimizers = [one for each in optimizers(model) for one in each.variables]
    found = [*model_state(model), *of_optimizers]
    return list({id(variable): variable for variable in found}.values())


def _name(variable: Any) -> str:
    """A variable's name, as it is in each process.

    Not its path, which depends on where it was built, nor the numbers by which Keras
    tells models apart.
    """
    return re.sub(r"_\d+(?=[_:]|$)", "", variable.name.rpartition("/")[2])


def _described(name: str, variable: Any) -> tuple[str, tuple[int, ...], str]:
    kind = keras.backend.standardize_dtype(variable.dtype)
    return name, tuple(variable.shape), kind


def _at(described: list[Any], place: int) -> str:
    if place >= len(described):
        return "missing"
    name, shape, kind = described[place]
    return f"{name!r} of shape {shape} and type {kind}"
