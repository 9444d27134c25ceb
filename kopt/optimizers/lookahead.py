"""Lookahead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from kopt import _checks
from kopt._registry import register
from kopt.optimizers._tracks import Batch, Track, constrain, for_each, read, write
from kopt.optimizers._wrapper import Wrapper


@register("optimizers")
class Lookahead(Wrapper):
    """Lookahead: some steps forward with any optimizer, then part of the way back.

    It steadies an optimizer that is noisy or whose learning rate is high, for one copy
    of the weights. Every `sync_period` steps the slow weights go part of the way to
    where the inner optimizer is, and it goes on from there. The model trains at the
    fast weights and is evaluated at the slow ones.

        fast = inner step, sync_period times
        slow = slow + slow_step_size (fast - slow)        fast = slow

    Args:
        inner_optimizer: The optimizer of the fast weights, of Keras or kopt; its state
            goes on over a synchronization.
        sync_period: Steps from one synchronization to the next, at least 1. Defaults
            to `6`.
        slow_step_size: Share of the way that the slow weights go, in (0, 1]. Defaults
            to `0.5`.
        name: Name of the optimizer. Defaults to `"lookahead"`.

    Raises:
        TypeError: If `inner_optimizer` is not an optimizer.
        ValueError: For a number outside its range, or an inner optimizer with
            `use_ema`, with loss scaling, or with a training point of its own.

    References:
        Zhang et al., 2019, "Lookahead Optimizer: k steps forward, 1 step back",
        arXiv:1907.08610.

    Example:

    >>> weight = keras.Variable([1.0])
    >>> optimizer = kopt.Lookahead(kopt.SGD(learning_rate=0.1), sync_period=2)
    >>> path = []
    >>> for _ in range(4):
    ...     optimizer.apply([keras.ops.ones(1)], [weight])
    ...     path.append(round(float(weight[0]), 2))
    >>> path  # two steps of 0.1 forward, and half of them back
    [0.9, 0.9, 0.8, 0.8]
    """

    copies = ("slow",)
    evaluates_at = "slow"
    averages = True

    def __init__(
        self,
        inner_optimizer: Any,
        sync_period: int = 6,
        slow_step_size: float = 0.5,
        name: str = "lookahead",
    ) -> None:
        super().__init__(inner_optimizer, name)
        self.sync_period = _checks.integer("sync_period", sync_period, low=1)
        self.slow_step_size = _checks.number(
            "slow_step_size", slow_step_size, low=0, high=1, low_open=True
        )

    def counters(self) -> Mapping[str, str]:
        return {"steps": "int32"}

    def after_step(self, batch: Batch, before: Any, moved: Any) -> None:
        steps = self.count_steps(batch, moved)
        due = batch.taken(moved) & (steps % self.sync_period == 0)
        mine = tf.gather(due, [track.index for track in batch.tracks])
        # One that had no gradient has not moved, and does not move back either.
        for_each(
            self._synchronize, batch.tracks, scalars=[due], when=tf.reduce_any(mine)
        )
        for track in batch.tracks:
            constrain([track], when=due[track.index])

    def _synchronize(self, track: Track, due: Any) -> None:
        slow, fast = read(track.slots["slow"]), read(track.variable, track.dtype)
        synchronized = slow + self.slow_step_size * (fast - slow)
        due = due[track.index]
        write(track.slots["slow"], tf.where(due, synchronized, slow))
        write(track.variable, tf.where(due, synchronized, fast))
