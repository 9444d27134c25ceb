"""What every layer that drops things at random shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import keras

from kopt import _checks
from kopt._live_float import LiveFloat

_RANDOM_STATE = "random_state"


@dataclass(frozen=True)
class Traits:
    """What a layer promises; the conformance suite holds it to that.

    Attributes:
        variants: One function for each way to construct the layer that the suite
            should try; it makes fresh constructor arguments, without `rate` and `seed`.
        input_shape: A shape that the layer takes, batch included.
        takes: `"floats"` or `"integers"`.
        drops: `"inputs"`, `"weights"` or `"recurrent weights"`: what the layer sets to
            zero. Zeros in the last do not come out as zeros.
        scales_survivors: Whether what is left is scaled by exactly `1 / (1 - rate)`.
        keeps_mean: Whether the expected output in training is the output at inference.
    """

    variants: tuple[Callable[[], dict[str, Any]], ...] = (dict,)
    input_shape: tuple[int, ...] = (8, 4, 4, 6)
    takes: str = "floats"
    drops: str = "inputs"
    scales_survivors: bool = True
    keeps_mean: bool = True


class RandomLayer(keras.layers.Layer):
    """A layer with a dropping rate that can be moved, and random numbers of its own.

    `rate` and the state of the random numbers are among the layer's `variables`, not
    among its `weights`: they are not trained, not counted as parameters, and not part
    of `get_weights`. The rate is saved with the configuration, so a `.keras` file
    keeps it as it last was, while loading a weight file leaves it alone. The state of
    the random numbers is saved with the weights, so that a training that is saved,
    loaded and continued draws what it would have drawn without the stop.

    Args:
        rate: Probability of dropping, from 0 to 1.
        seed: Integer seed, or `None` for a new one each time.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    _traits: ClassVar[Traits] = Traits()

    rate = LiveFloat(low=0.0, high=1.0)
    _rate: keras.Variable

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = rate
        self.seed = None if seed is None else _checks.integer("seed", seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    @property
    def variables(self) -> list[keras.Variable]:
        """All state of the layer: its weights, its random state and its rate."""
        return [*super().variables, self._rate]

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        store[_RANDOM_STATE] = self.seed_generator.state

    def load_own_variables(self, store: Any) -> None:
        saved = {key: store[key] for key in store.keys()}
        # Weights of the layer's Keras twin come without a random state: keep our own.
        if _RANDOM_STATE in saved:
            self.seed_generator.state.assign(saved.pop(_RANDOM_STATE))
        super().load_own_variables(saved)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
