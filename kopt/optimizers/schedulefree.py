"""Schedule-Free learning around any optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kopt import _checks
from kopt._keras.optimizer_adapter import schedule
from kopt._registry import register
from kopt.optimizers._base import Optimizer
from kopt.optimizers._plan import Slot
from kopt.optimizers._tracks import Batch, Track, constrain, for_each, own, read, write
from kopt.optimizers._wrapper import Wrapper, innermost


@register("optimizers")
class ScheduleFree(Wrapper):
    """Schedule-Free: a constant learning rate, and an average in place of its decay.

    It reaches what a decaying schedule reaches without knowing where the run ends, so
    training can stop, or go on, at any step. The inner optimizer moves z; gradients
    are taken at y; the model is evaluated at x, the average of z. `ScheduleFreeAdamW`
    and `ScheduleFreeSGD` are it with the optimizers of the paper.

        y = (1 - momentum) z + momentum x
        z = inner step from z, by the gradient at y, less learning_rate weight_decay y
        x = (1 - c) x + c z,   c = weight / sum of the weights so far,
            weight = step^r (highest learning rate so far)^weight_lr_power

    Set the momentum of the inner optimizer to 0: the interpolation takes its place.
    Give the inner optimizer a constant rate, or `kopt.schedules.Warmup(rate, steps)`;
    a schedule that decays is refused. z and x are both kept (the authors' faster code
    computes x from y and z), so that going to x and back changes no bit.

    Args:
        inner_optimizer: The optimizer of z, of Keras or kopt.
        momentum: Share of x in y, in [0, 1). Defaults to `0.9`.
        weight_decay: Decay, times the learning rate, by the weights y. The inner
            optimizer's own `weight_decay` is by the weights z. Defaults to `None`.
        r: Power of the step in the average's weights. Defaults to `0.0`.
        weight_lr_power: Power of the highest learning rate in them, which counts during
            a warm-up. Defaults to `2.0`.
        name: Name of the optimizer. Defaults to `"schedule_free"`.

    Raises:
        TypeError: If `inner_optimizer` is not an optimizer.
        ValueError: For a number outside its range, for a decaying schedule, or an
            inner optimizer with an average (`use_ema`, Lookahead) or loss scaling.

    References:
        Defazio et al., 2024, "The Road Less Scheduled", arXiv:2405.15682.

    Example:

    >>> weight = keras.Variable([1.0])
    >>> optimizer = kopt.ScheduleFree(kopt.SGD(learning_rate=0.1), momentum=0.5)
    >>> for _ in range(2):
    ...     optimizer.apply([keras.ops.ones(1)], [weight])
    >>> print(weight.numpy().round(4))  # y, between x = 0.85 and z = 0.8
    [0.825]
    >>> optimizer.swap_to_eval()
    >>> print(weight.numpy().round(4))  # x, the mean of z = 0.9 and z = 0.8
    [0.85]
    """

    copies = ("z", "x")
    evaluates_at = "x"
    averages = True
    displaces = True

    def __init__(
        self,
        inner_optimizer: Any,
        momentum: float = 0.9,
        weight_decay: float | None = None,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        name: str = "schedule_free",
    ) -> None:
        super().__init__(inner_optimizer, name)
        self.momentum = _checks.number(
            "momentum", momentum, low=0, high=1, high_open=True
        )
        if weight_decay is not None:
            _checks.number("weight_decay", weight_decay, low=0)
        self.weight_decay = weight_decay
        self.r = _checks.number("r", r, low=0)
        self.weight_lr_power = _checks.number("weight_lr_power", weight_lr_power, low=0)

    def checked_inner(
        self, inner: keras.optimizers.Optimizer
    ) -> keras.optimizers.Optimizer:
        inner = super().checked_inner(inner)
        level = inner
        while isinstance(level, Wrapper):
            if level.averages:
                kind = type(level).__name__
                raise ValueError(
                    f"ScheduleFree(...{kind}(...)) averages twice. Leave {kind} out: "
                    "ScheduleFree evaluates at an average already."
                )
            level = level.inner_optimizer
        _refuse_decay(schedule(level))
        return inner

    @property
    def learning_rate(self) -> Any:
        """The inner optimizer's learning rate."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        _refuse_decay(value)
        self.inner_optimizer.learning_rate = value

    def check_schedule(
        self, schedule: keras.optimizers.schedules.LearningRateSchedule
    ) -> None:
        """Refuse a schedule of the learning rate that ever falls.

        `kopt.callbacks.FitSchedule` asks before it drives the rate.

        Raises:
            ValueError: If it falls.
        """
        _refuse_decay(schedule)

    def number_slots(self) -> Mapping[str, Slot]:
        return {"highest_rate": Slot((), 0.0)}

    def counters(self) -> Mapping[str, str]:
        return {"weight_sum": keras.backend.floatx()}

    def before_step(self, batch: Batch) -> None:
        for_each(_to_z, batch.tracks)

    def after_step(self, batch: Batch, before: Any, moved: Any) -> None:
        taken = tf.cast(batch.taken(moved), "float64")
        step = tf.cast(tf.convert_to_tensor(self.iterations), "float64")
        old = read(self.numbers["highest_rate"], "float64")
        highest = tf.maximum(old, batch.rate)
        weight = step**self.r * highest**self.weight_lr_power * taken
        # Each variable has a sum of its own, for its average is over its own steps.
        total = read(self.numbers["weight_sum"], "float64") + weight * self.among(batch)
        share = tf.math.divide_no_nan(weight, total)
        self._keep("highest_rate", tf.where(moved, highest, old))
        self._keep("weight_sum", total)
        scalars = [share, batch.rate * taken]
        for_each(self._interpolate, batch.tracks, scalars=scalars)
        constrain(batch.tracks, when=batch.due)

    def _keep(self, name: str, value: Any) -> None:
        self.numbers[name].assign(tf.cast(value, self.numbers[name].dtype))

    def _interpolate(self, track: Track, share: Any, rate: Any) -> None:
        share = tf.cast(share[track.index], track.dtype)
        rate = tf.cast(own(rate, track), track.dtype)
        old, x = read(track.slots["z"]), read(track.slots["x"])
        z = read(track.variable, track.dtype)
        if track.variable.dtype != track.dtype:
            # Only the step: z itself is known better than 16 bits can hold.
            z = old + (z - tf.cast(tf.cast(old, track.variable.dtype), track.dtype))
        decay = self._decay(track)
        if decay is not None:
            z = z - rate * decay * self._between(x, old)
        x = x + share * (z - x)
        write(track.slots["z"], z)
        write(track.slots["x"], x)
        write(track.variable, self._between(x, z))

    def _between(self, x: Any, z: Any) -> Any:
        return x + (1 - self.momentum) * (z - x)

    def _decay(self, track: Track) -> Any:
        """The decay of a variable, as an inner optimizer of kopt divides them."""
        decay, inner = self.weight_decay, innermost(self.inner_optimizer)
        if not decay or not isinstance(inner, Optimizer):
            return decay or None
        plan = inner.plan(track.index)
        if track.index in inner.excluded_from_weight_decay:
            return None
        if plan.group is None:
            return decay
        if plan.group.weight_decay is not None:
            return None  # The inner optimizer sees to it.
        return decay * read(plan.factor, track.dtype)


def _to_z(track: Track) -> None:
    write(track.variable, read(track.slots["z"]))


def _refuse_decay(rate: Any) -> None:
    """Raise if a learning rate schedule ever falls."""
    if not isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return
    steps = np.unique(np.geomspace(1, 1e7, 64).astype("int64")) - 1
    values = np.array([float(rate(int(step))) for step in steps])
    if np.all(values[1:] >= values[:-1] * (1 - 1e-6)):
        return
    fall = int(np.argmax(values[1:] < values[:-1] * (1 - 1e-6)))
    highest = f"{values.max():.2g}"
    raise ValueError(
        "A learning rate that decays makes no sense under ScheduleFree, whose average "
        f"takes the place of the decay. Received: {rate!r}, which falls from "
        f"{values[fall]:.4g} to {values[fall + 1]:.4g} by step {steps[fall + 1]}. Give "
        f"the inner optimizer a constant rate, learning_rate={highest}, or "
        "kopt.schedules.Warmup of it."
    )
