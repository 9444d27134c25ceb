"""The state of a model: all that a pass through it reads and may move.

Keras has no public way to the seeds of random numbers without a layer.
"""

from __future__ import annotations

import keras
from keras.src.backend.common.global_state import get_global_attribute
from keras.src.random.seed_generator import (
    GLOBAL_SEED_GENERATOR,
    global_seed_generator,
)


def other_variables(model: keras.Model) -> list[keras.Variable]:
    """All that a pass reads beside trainable weights: statistics, seeds, rates."""
    variables: list[keras.Variable] = list(model.non_trainable_variables)
    # For random numbers of a layer without a seed. It belongs to a thread; those of
    # replicas have none, and Keras cannot make one there.
    unseeded = get_global_attribute(GLOBAL_SEED_GENERATOR)
    return variables if unseeded is None else [*variables, unseeded.state]


def make_unseeded_generator() -> None:
    """See that the source of unseeded random numbers is there before a pass."""
    global_seed_generator()
