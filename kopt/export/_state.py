"""What a model remembers from one call to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kopt._stateful import own_batch


class Updates(keras.StatelessScope):
    """A scope in which nothing is assigned; it remembers what would have been.

    Attributes:
        variables: What was assigned, by identity. A recurrent layer's state is no
            weight of the model, and nowhere else to be found.
    """

    def __init__(self, state_mapping: Sequence[tuple[keras.Variable, Any]]) -> None:
        super().__init__(state_mapping=state_mapping)
        self.variables: dict[int, keras.Variable] = {}

    def add_update(self, update: tuple[keras.Variable, Any]) -> None:
        super().add_update(update)
        self.variables[id(update[0])] = update[0]


def check_batch(model: keras.Model, batch_size: int) -> None:
    """Refuse another batch than the one that a model keeps state for."""
    own = own_batch(model)
    if own not in (None, batch_size):
        raise ValueError(
            f"{model.name!r} keeps state for batches of {own} (`stateful=True`). "
            f"Received: batch_size={batch_size}. Pass batch_size={own}, or build the "
            f"model with batches of {batch_size} and copy the weights with "
            "`set_weights`."
        )


def whole_batches(
    samples: Mapping[str, np.ndarray], batch_size: int
) -> dict[str, np.ndarray]:
    """The samples without those of a last batch that is not full."""
    count = len(next(iter(samples.values())))
    if count < batch_size:
        raise ValueError(
            f"A model that keeps state for batches of {batch_size} is compared on "
            f"whole batches. Received: {count} samples. Pass at least {batch_size}."
        )
    return {n: x[: count - count % batch_size] for n, x in samples.items()}
