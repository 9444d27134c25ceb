"""The generators of random numbers of Python, NumPy and TensorFlow."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from kopt._keras import random_state

State = dict[str, Any]


def present() -> State:
    """Where all of them are."""
    generator = random_state.global_generator()
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),
        "tensorflow": random_state.eager_state(),
        "generator": None if generator is None else generator.numpy(),
    }


def go_to(state: State) -> None:
    """Bring all of them to where they were."""
    _set_python(state["python"])
    np.random.set_state(state["numpy"])
    random_state.set_eager_state(state["tensorflow"])
    generator = random_state.global_generator()
    if generator is not None and state["generator"] is not None:
        generator.assign(state["generator"])


def settle(state: State, before: State) -> None:
    """Bring those to where they were that data have not drawn from in between.

    Data in Python draw ahead of the training that they are for. Where they do so, a
    generator is where it has to be when they have been drawn again.

    Args:
        state: Where they were.
        before: Where they stood before the data were drawn.
    """
    now = present()
    chosen = {
        name: state[name] if _same(now[name], before[name]) else now[name]
        for name in ("python", "numpy")
    }
    go_to({**state, **chosen})


def _set_python(state: Any) -> None:
    version, numbers, spare = state
    random.setstate((version, tuple(numbers), spare))


def _same(one: Any, other: Any) -> bool:
    """Whether two trees are equal; a tuple is as good as a list."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            _same(one[key], other[key]) for key in one
        )
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    return bool(one == other)
