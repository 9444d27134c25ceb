"""Mechanic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kopt import _checks
from kopt._keras.optimizer_adapter import accumulators
from kopt._registry import register
from kopt.optimizers._plan import Slot
from kopt.optimizers._tracks import (
    Batch,
    Track,
    constrain,
    for_each,
    own,
    read,
    summed_over_replicas,
    write,
)
from kopt.optimizers._wrapper import Wrapper


@register("optimizers")
class Mechanic(Wrapper):
    """Mechanic: learn the scale of any optimizer's steps, in place of tuning it.

    The inner optimizer proposes steps, at a learning rate that is best set to 1.0 (or
    a schedule with that peak, whose shape stays). Mechanic adds them up and learns,
    from whether the sum goes downhill, one factor for all of it. For two copies of the
    weights.

        u = what the inner optimizer adds to w         D = sum of the u so far
        h = <D, -(g + weight_decay s |g| w / |w|)>
        m, v, r = running maximum, squares and rewards of h, for each beta
        s = sum over the betas of (s_init / n m + max(0, r)) / (sqrt(v) + epsilon)
        w = first w + s D

    with betas 0.9, 0.99, ..., and h within -m and m in r, as in the authors' code.
    Not for inner optimizers that normalize by the weights (LAMB, LARS). `weight_decay`
    is the method's own; the inner optimizer's is part of u. D is kept, as the paper
    writes it; optax computes it from w, which rounds and adds `epsilon` to s.

    Args:
        inner_optimizer: The optimizer that proposes steps, of Keras or kopt, with
            learning rate 1.0.
        weight_decay: Pull to zero in what the scale is learned from, from 0. Defaults
            to `0.01`.
        epsilon: Keeps denominators from 0. Defaults to `1e-8`.
        s_init: First scale, greater than 0; the default nearly always does. Defaults
            to `1e-6`.
        num_betas: How many betas, at least 1. Defaults to `6`.
        name: Name of the optimizer. Defaults to `"mechanic"`.

    Raises:
        TypeError: If `inner_optimizer` is not an optimizer.
        ValueError: For a number outside its range, or an inner optimizer with
            `use_ema`, with loss scaling, or with weights of its own (other wrappers).

    References:
        Cutkosky, Defazio & Mehta, 2023, "Mechanic: A Learning Rate Tuner",
        arXiv:2306.00144.

    Example:

    >>> weight = keras.Variable([1.0])
    >>> optimizer = kopt.Mechanic(kopt.SGD(learning_rate=1.0))
    >>> for _ in range(60):  # the minimum of the square; the scale begins at 1e-6
    ...     optimizer.apply([2 * weight], [weight])
    >>> bool(abs(weight[0]) < 0.2), bool(optimizer.scale > 0.01)
    (True, True)
    """

    copies = ("origin",)
    zeros = ("path",)
    # It multiplies the inner optimizer's steps, so a step to zero does not get there.
    shrinks = False

    def __init__(
        self,
        inner_optimizer: Any,
        weight_decay: float = 0.01,
        epsilon: float = 1e-8,
        s_init: float = 1e-6,
        num_betas: int = 6,
        name: str = "mechanic",
    ) -> None:
        super().__init__(inner_optimizer, name)
        self.weight_decay = _checks.number("weight_decay", weight_decay, low=0)
        self.epsilon = _checks.number("epsilon", epsilon, low=0, low_open=True)
        self.s_init = _checks.number("s_init", s_init, low=0, low_open=True)
        self.num_betas = _checks.integer("num_betas", num_betas, low=1)

    def checked_inner(
        self, inner: keras.optimizers.Optimizer
    ) -> keras.optimizers.Optimizer:
        inner = super().checked_inner(inner)
        if isinstance(inner, Wrapper):
            kind = type(inner).__name__
            raise ValueError(
                f"Mechanic({kind}(...)) makes no sense: {kind} keeps weights, which "
                "Mechanic would move away from. Turn the order around: "
                f"kopt.{kind}(kopt.Mechanic(...))."
            )
        return inner

    @property
    def scale(self) -> Any:
        """The learned factor on the inner optimizer's steps, `s` in the paper."""
        return tf.reduce_sum(self.numbers["s"].value) if self.built else self.s_init

    def number_slots(self) -> Mapping[str, Slot]:
        shape = (self.num_betas,)
        zeros = {name: Slot(shape, 0.0) for name in ("m", "v", "r")}
        return {**zeros, "s": Slot(shape, self.s_init)}

    def before_step(self, batch: Batch) -> Any:
        weights = [read(track.variable, track.dtype) for track in batch.tracks]
        return weights, self._reward(batch, _of_the_due(batch, weights))

    def after_step(self, batch: Batch, before: Any, moved: Any) -> None:
        weights, h = before
        state = {name: read(v, "float64") for name, v in self.numbers.items()}
        new = self._tuned(state, h)
        for name, value in new.items():
            value = tf.where(moved, value, state[name])
            self.numbers[name].assign(tf.cast(value, self.numbers[name].dtype))
        scale = tf.reduce_sum(new["s"])
        taken = batch.taken(moved)
        for_each(_rescale, batch.tracks, weights, scalars=[scale, taken])
        constrain(batch.tracks, when=taken)

    def _reward(self, batch: Batch, weights: list[Any]) -> Any:
        """How far the path so far went downhill, by the present gradient."""
        gradients = _of_the_due(batch, self._gradients(batch))
        paths = [read(track.slots["path"]) for track in batch.tracks]
        pull = 0.0
        if self.weight_decay:
            s = tf.reduce_sum(read(self.numbers["s"], "float64"))
            norms = [tf.sqrt(_dot(values, values)) for values in (gradients, weights)]
            pull = self.weight_decay * s * norms[0] / (norms[1] + self.epsilon)
        return -_dot(gradients, paths) - pull * _dot(weights, paths)

    def _tuned(self, state: dict[str, Any], h: Any) -> dict[str, Any]:
        """The next m, v, r and s, each with one number for each beta."""
        betas = 1 - 0.1 ** np.arange(1, self.num_betas + 1)
        clipped = tf.minimum(tf.maximum(h, -state["m"]), state["m"])
        m = tf.maximum(betas * state["m"], tf.abs(h) + self.epsilon)
        v = betas**2 * state["v"] + h**2
        r = betas * state["r"] + clipped * state["s"]
        wealth = self.s_init / self.num_betas * m + tf.maximum(r, 0.0)
        return {"m": m, "v": v, "r": r, "s": wealth / (tf.sqrt(v) + self.epsilon)}

    def _gradients(self, batch: Batch) -> list[Any]:
        """The gradients of this step: of the whole batch, with those accumulated."""
        inner = self.inner_optimizer
        factor = inner.loss_scale_factor or 1.0
        gradients = summed_over_replicas(
            [tf.convert_to_tensor(gradient) / factor for gradient in batch.gradients]
        )
        count = inner.gradient_accumulation_steps
        if not count:
            return gradients
        sums = accumulators(inner)
        return [
            (gradient + read(sums[track.index], gradient.dtype)) / count
            for gradient, track in zip(gradients, batch.tracks, strict=True)
        ]


def _of_the_due(batch: Batch, values: list[Any]) -> list[Any]:
    """Values for each variable, zeros for those that wait for more gradients."""
    if batch.due is None:
        return values
    return [
        tf.where(batch.due[track.index], value, tf.zeros_like(value))
        for track, value in zip(batch.tracks, values, strict=True)
    ]


def _rescale(track: Track, weights: Any, scale: Any, taken: Any) -> None:
    moved = own(taken, track)
    path = read(track.slots["path"])
    longer = path + (read(track.variable, track.dtype) - weights)
    scaled = read(track.slots["origin"]) + tf.cast(scale, track.dtype) * longer
    write(track.slots["path"], tf.where(moved, longer, path))
    write(track.variable, tf.where(moved, scaled, weights))


def _dot(left: list[Any], right: list[Any]) -> Any:
    """The scalar product over all variables, in float64."""
    products = [
        tf.reduce_sum(tf.cast(a, b.dtype) * b) for a, b in zip(left, right, strict=True)
    ]
    return tf.add_n([tf.cast(product, "float64") for product in products])
