"""Averages of the weights over the steps: EMA and SWA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.optimizers._tracks import Batch, Track, for_each, read, write
from kopt.optimizers._wrapper import Wrapper, innermost


@register("optimizers")
class WeightAverage(Wrapper):
    """Train as the inner optimizer does, and evaluate at an average of its weights.

    The average lies in the middle of where the last steps went to and fro, and often
    generalizes better than any of them. Without `momentum` it is the plain mean of
    stochastic weight averaging (SWA), for the last quarter of a run at a constant or
    cyclical learning rate; with `momentum` an exponential one (EMA), for any run.
    Training itself stays as it was. Unlike `use_ema` of Keras it can start late,
    averages after constraints and once a step, and `fit` can go on after it.

        SWA: average = average + (w - average) / (n + 1)
        EMA: average = momentum average + (1 - momentum) w

    Batch normalization keeps statistics of the weights that were trained, not of the
    average: `kopt.callbacks.EvalWeights(statistics=...)` takes them again.

    Args:
        inner_optimizer: The optimizer whose weights are averaged, of Keras or kopt.
        momentum: Momentum of an exponential average, in [0, 1], or `None` for the
            plain mean. A callback moves it as `"ema_momentum"`. Defaults to `None`.
        start: Steps before the first that counts. Defaults to `0`.
        every: Steps from one that counts to the next. Defaults to `1`.
        name: Name of the optimizer. Defaults to `"weight_average"`.

    Raises:
        TypeError: If `inner_optimizer` is not an optimizer.
        ValueError: For a number outside its range, or an inner optimizer with an
            average or a training point of its own.

    References:
        Izmailov et al., 2018, "Averaging Weights Leads to Wider Optima and Better
        Generalization", arXiv:1803.05407.

    Example:

    >>> weight = keras.Variable([1.0])
    >>> optimizer = kopt.WeightAverage(kopt.SGD(learning_rate=0.1))
    >>> for _ in range(3):
    ...     optimizer.apply([keras.ops.ones(1)], [weight])
    >>> optimizer.swap_to_eval()
    >>> print(weight.numpy().round(4))  # the mean of 0.9, 0.8 and 0.7
    [0.8]
    """

    copies = ("average",)
    evaluates_at = "average"
    averages = True

    def __init__(
        self,
        inner_optimizer: Any,
        momentum: float | None = None,
        start: int = 0,
        every: int = 1,
        name: str = "weight_average",
    ) -> None:
        super().__init__(inner_optimizer, name)
        if momentum is not None:
            _checks.number("momentum", momentum, low=0, high=1)
        self.ema_momentum = momentum
        self.start = _checks.integer("start", start, low=0)
        self.every = _checks.integer("every", every, low=1)

    @property
    def momentum(self) -> float | None:
        """What `momentum` is at present."""
        return self.ema_momentum

    @momentum.setter
    def momentum(self, value: float | None) -> None:
        self.ema_momentum = value

    def on_demand(self) -> tuple[str, ...]:
        # Not "momentum", which is that of the inner optimizer for who moves it.
        return () if self.momentum is None else ("ema_momentum",)

    def checked_inner(
        self, inner: keras.optimizers.Optimizer
    ) -> keras.optimizers.Optimizer:
        inner = super().checked_inner(inner)
        if isinstance(inner, WeightAverage):
            raise ValueError(
                "WeightAverage(WeightAverage(...)) averages twice. Leave one out; the "
                f"optimizer to average is {type(innermost(inner)).__name__}."
            )
        return inner

    def counters(self) -> Mapping[str, str]:
        return {"steps": "int32"}

    def restarted(self, name: str, counter: Any) -> Any:
        # Not to wait for the start once more.
        return tf.minimum(self.known_steps(), self.start)

    def _upgraded(self, stored: dict[str, Any]) -> dict[str, Any]:
        # An earlier version counted what was averaged, for all variables together.
        stored.pop("count", None)
        return super()._upgraded(stored)

    def averaged(self) -> np.ndarray:
        return np.array(self.known_steps()) > self.start

    def evaluates(self) -> bool:
        return bool(np.any(self.averaged()))

    def after_step(self, batch: Batch, before: Any, moved: Any) -> None:
        steps = self.count_steps(batch, moved) - self.start
        due = batch.taken(moved) & (steps > 0) & ((steps - 1) % self.every == 0)
        # Those that have counted before this one.
        count = tf.cast((steps - 1) // self.every, "float64")
        share = 1 / (count + 1)
        if self.momentum is not None:
            first = tf.ones_like(count)
            share = tf.where(count > 0, (1 - self._present_momentum()) * first, first)
        share = tf.where(due, share, 0)
        mine = tf.gather(due, [track.index for track in batch.tracks])
        for_each(self._average, batch.tracks, scalars=[share], when=tf.reduce_any(mine))

    def _present_momentum(self) -> Any:
        variable = self.hyperparameters.get("ema_momentum")
        return self.momentum if variable is None else ops.cast(variable, "float64")

    def _average(self, track: Track, share: Any) -> None:
        average = read(track.slots["average"])
        share = tf.cast(share[track.index], average.dtype)
        present = read(track.variable, track.dtype)
        # The first that counts is taken as it is, to the last bit.
        moved = average + share * (present - average)
        write(track.slots["average"], tf.where(share < 1, moved, present))
