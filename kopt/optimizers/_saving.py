"""An optimizer's state by name, all of it or nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kopt.optimizers._plan import Plan
from kopt.optimizers._tracks import PUT_ASIDE

#: In a store: the numbers by which an optimizer knows what it wrote into the model.
#: Files of earlier versions have none.
WRITTEN = "written"


def named_variables(
    counters: Mapping[str, keras.Variable | None], plans: Iterable[Plan]
) -> dict[str, keras.Variable]:
    """Every variable of an optimizer under a name that says what it is."""
    named = {name: variable for name, variable in counters.items()}
    for plan in plans:
        extras = {
            "average": plan.average,
            PUT_ASIDE: plan.put_aside,
            "gradient_accumulator": plan.accumulator,
        }
        for slot, variable in {**plan.state, **extras}.items():
            named[f"{slot}.{plan.index}"] = variable
    return {name: variable for name, variable in named.items() if variable is not None}


def save(
    store: MutableMapping[str, Any],
    named: Mapping[str, keras.Variable],
    written: np.ndarray | None,
) -> None:
    """Write the values, and what `WRITTEN` says, into a Keras weights store."""
    for name, variable in named.items():
        store[name] = keras.ops.convert_to_numpy(variable.value)
    if written is not None:
        store[WRITTEN] = written


def copy(store: Mapping[str, Any]) -> dict[str, Any]:
    """What a Keras weights store holds, for when the store is closed."""
    return {name: np.array(store[name]) for name in store.keys()}


def load(
    store: Mapping[str, Any],
    named: Mapping[str, keras.Variable],
    owner: str,
    upgraded: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> np.ndarray | None:
    """Read all the values from a Keras weights store, or none of them.

    Args:
        store: The store.
        named: The variables to fill, by name.
        owner: Whose state it is, for the message.
        upgraded: Gives what was stored by an earlier version the form of this one.

    Returns:
        What is stored as `WRITTEN`, if anything is.

    Raises:
        ValueError: If a value is missing, left over, or of another shape.
    """
    stored = upgraded({name: store[name] for name in store.keys()})
    written = stored.pop(WRITTEN, None)
    problems = [f"{name} is missing" for name in sorted(set(named) - set(stored))]
    problems += [f"{name} is not known" for name in sorted(set(stored) - set(named))]
    for name in sorted(set(named) & set(stored)):
        saved, present = tuple(stored[name].shape), tuple(named[name].shape)
        if saved != present:
            problems.append(f"{name} has shape {saved}, needed is {present}")
    if problems:
        listed = "; ".join(problems[:8]) + ("; ..." if len(problems) > 8 else "")
        raise ValueError(
            f"The saved state does not fit the optimizer {owner!r}: {listed}. Nothing "
            "was loaded. Load it with the same optimizer class, the same options and "
            "a model with the same trainable variables in the same order. To take "
            "the model's weights alone from a file, load it before `compile`."
        )
    for name, variable in named.items():
        variable.assign(stored[name])
    return None if written is None else np.array(written)


def memory(optimizer: keras.optimizers.Optimizer) -> int:
    """Bytes of everything that an optimizer keeps.

    Raises:
        ValueError: If it is not built.
    """
    if not optimizer.built:
        raise ValueError(
            f"The optimizer {optimizer.name!r} is not built, so it has no state yet. "
            "Call `optimizer.build(model.trainable_variables)` first."
        )
    return sum(
        math.prod(variable.shape) * tf.as_dtype(variable.dtype).size
        for variable in optimizer.variables
    )
