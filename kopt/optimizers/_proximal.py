"""The proximal step: penalties that are applied to weights after an update.

A regularizer asks for it with a true `proximal` and gives `shrunk(weights, variable,
rate)`, the minimum of its penalty times the rate beside half the squared distance to
the weights. It makes exact zeros, which a step down a gradient does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import tensorflow as tf

from kopt._variables import NARROW
from kopt.optimizers import _rounding
from kopt.optimizers._descent import Step
from kopt.optimizers._plan import COMPENSATION, Plan
from kopt.optimizers._tracks import Track, for_each, read, write

if TYPE_CHECKING:
    from kopt.optimizers._base import Optimizer

T = TypeVar("T", Plan, Track)

# Slots of a variable draw numbers of their own to round at random; so does this.
_DRAW = 63


def shrinking(holders: Iterable[T]) -> list[T]:
    """Those whose variable has a penalty that is applied after the step."""
    return [
        holder
        for holder in holders
        if getattr(holder.variable.regularizer, "proximal", False)
    ]


def shrink(
    for_each: Callable[..., None],
    optimizer: Optimizer,
    plans: list[Plan],
    steps: list[Step],
    due: list[Any] | None,
) -> None:
    """Take the proximal step of each variable that has one; under `due` where true.

    Args:
        for_each: Calls a function for each variable, on all its devices.
        optimizer: What has moved the variables.
        plans: The variables.
        steps: Their scalars in this update.
        due: Which of them took a step, or `None` where all did.
    """
    flags = [None] * len(plans) if due is None else due
    rows = {plan.index: row for plan, *row in zip(plans, steps, flags, strict=True)}
    chosen = shrinking(plans)

    def one(plan: Plan, step: Step, *due: Any) -> None:
        if due:
            tf.cond(due[0], lambda: _shrink(optimizer, plan, step), lambda: None)
        else:
            _shrink(optimizer, plan, step)

    if chosen:
        columns = [list(c) for c in zip(*(rows[p.index] for p in chosen), strict=True)]
        for_each(one, chosen, *columns[: 1 if due is None else 2])


def _shrink(optimizer: Optimizer, plan: Plan, step: Step) -> None:
    variable = plan.variable
    present = read(variable, plan.dtype)
    kept = plan.state.get(COMPENSATION)
    if kept is not None:
        present = present + read(kept, plan.dtype)
    rate = optimizer.proximal_rate(step)
    new = variable.regularizer.shrunk(present, variable, rate)
    if kept is not None:
        new, rest = _rounding.compensated(new, variable.dtype)
        write(kept, rest)
    elif variable.dtype in NARROW and optimizer.bf16_rounding == "stochastic":
        seed = tf.add(step.seed, [_DRAW << 24, 0])
        new = _rounding.stochastic(tf.cast(new, "float32"), seed, variable.dtype)
    write(variable, new)


def keep_zeros_of_averages(for_each: Callable[..., None], plans: list[Plan]) -> None:
    """Let moving averages be zero where the proximal step has made weights zero."""

    def keep(plan: Plan) -> None:
        write(plan.average, _emptied(read(plan.average), read(plan.variable) == 0))

    if chosen := shrinking(plans):
        for_each(keep, chosen)


def zeros_of(tracks: list[Track]) -> list[tf.Tensor]:
    """Where the weights that an inner optimizer has moved are zero."""
    return [read(track.variable) == 0 for track in tracks]


def keep_zeros(tracks: list[Track], zeros: list[tf.Tensor], slot: str | None) -> None:
    """Let those be zero at a wrapper's points too: where it trains and evaluates."""

    def keep(track: Track, zero: tf.Tensor) -> None:
        write(track.variable, _emptied(read(track.variable), zero))
        if slot in track.slots:
            write(track.slots[slot], _emptied(read(track.slots[slot]), zero))

    for_each(keep, tracks, zeros)


def _emptied(values: tf.Tensor, zero: tf.Tensor) -> tf.Tensor:
    return tf.where(zero, tf.zeros_like(values), values)
