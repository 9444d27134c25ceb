"""What TensorFlow draws random numbers from where no generator is given.

`tf.random.set_seed` can be called and not be asked. Eager operations take their seeds
from a generator of Python that it makes; functions and data sets are built with the
seed that is set at that moment. And `tf.random.get_global_generator` makes a generator
where there is none.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.ops import stateful_random_ops


def global_seed() -> int | None:
    """The seed of `tf.random.set_seed`, or `None` where it was not called."""
    return context.global_seed()


def eager_state() -> dict[str, Any]:
    """The seed that is set, and where the seeds of eager operations have come to."""
    seed = global_seed()
    generator = None if seed is None else context.context()._rng.getstate()
    return {"seed": seed, "generator": generator}


def set_eager_state(state: dict[str, Any]) -> None:
    """Go back to a state, in this process or another one."""
    owner = context.context()
    owner._seed = state["seed"]
    owner._rng = None
    if state["seed"] is not None:
        version, numbers, spare = state["generator"]
        owner._rng = random.Random()
        owner._rng.setstate((version, tuple(numbers), spare))


@contextmanager
def functions_seeded(seed: int) -> Iterator[None]:
    """Build functions and data sets as if `tf.random.set_seed(seed)` had been called.

    Afterwards all is as before.
    """
    before = eager_state()
    set_eager_state({"seed": seed, "generator": random.Random(seed).getstate()})
    try:
        yield
    finally:
        set_eager_state(before)


def global_generator() -> tf.Variable | None:
    """The state of TensorFlow's global generator, if anybody has asked for it."""
    generator = stateful_random_ops.global_generator
    return None if generator is None else generator.state
