"""Momentum-SAM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from kopt import _checks
from kopt._registry import register
from kopt.optimizers._base import Optimizer
from kopt.optimizers._tracks import Batch, Track, constrain, for_each, own, read, write
from kopt.optimizers._wrapper import Wrapper, innermost
from kopt.optimizers.sgd import SGD


@register("optimizers")
class MomentumSAM(Wrapper):
    """Momentum-SAM: sharpness-aware minimization without a second gradient.

    SAM takes the gradient where a step uphill leads, which costs a second pass; here
    the model stands a fixed distance along the momentum, which is at hand. Flat minima
    are found at the price of a copy of the weights. The model trains at the displaced
    weights and is evaluated at the ones that the inner optimizer moves.

        w = inner step from w, by the gradient at w'
        w' = w - rho v / |v|,   v the momentum, |v| its norm over all variables

    The authors recompute w from w'; it is kept here, so that rounding does not add up
    and going to w and back changes no bit.

    Args:
        inner_optimizer: An optimizer with momentum, of Keras or kopt: SGD with
            `momentum`, Adam, AdamW, Lion and others with a "momentum" variable for
            each weight.
        rho: Distance between w and w', from 0. It is a norm over all weights, so it
            grows with the model: the authors' examples take 3 for networks with
            millions of weights. Defaults to `0.3`, the default of their code.
        name: Name of the optimizer. Defaults to `"momentum_sam"`.

    Raises:
        TypeError: If `inner_optimizer` is not an optimizer.
        ValueError: For a negative `rho`, or an inner optimizer with `use_ema`, with
            loss scaling, or with a training point of its own; and when it is built, if
            the inner optimizer has no momentum.

    References:
        Becker, Altrock & Risse, 2024, "Momentum-SAM: Sharpness Aware Minimization
        without Computational Overhead", arXiv:2401.12033.

    Example:

    >>> weight = keras.Variable([1.0])
    >>> inner = kopt.SGD(learning_rate=0.1, momentum=0.9)
    >>> optimizer = kopt.MomentumSAM(inner, rho=0.05)
    >>> optimizer.apply([keras.ops.ones(1)], [weight])
    >>> print(weight.numpy().round(4))  # where the next gradient is taken
    [0.85]
    >>> optimizer.swap_to_eval()
    >>> print(weight.numpy().round(4))
    [0.9]
    """

    copies = ("weights",)
    evaluates_at = "weights"
    displaces = True
    #: Which way of the momentum is up.
    _sign: float

    def __init__(
        self, inner_optimizer: Any, rho: float = 0.3, name: str = "momentum_sam"
    ) -> None:
        super().__init__(inner_optimizer, name)
        self.rho = _checks.number("rho", rho, low=0)

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        if not self.built:
            return  # There were no variables.
        inner = innermost(self.inner_optimizer)
        # Past `__setattr__`: they are the inner optimizer's.
        self.__dict__["_momenta"] = {
            track.index: _momentum(inner, track.variable) for track in self.kept_tracks
        }
        # Keras's form of SGD keeps steps, which go downhill; others keep gradients.
        downhill = isinstance(inner, (keras.optimizers.SGD, SGD))
        self._sign = 1.0 if downhill else -1.0

    def before_step(self, batch: Batch) -> Any:
        held = [read(t.variable) for t in batch.tracks] if batch.due is not None else []
        for_each(_to_weights, batch.tracks)
        return held

    def after_step(self, batch: Batch, before: Any, moved: Any) -> None:
        squares = [self._square(track, batch.due) for track in batch.tracks]
        norm = tf.sqrt(tf.add_n([tf.cast(square, "float64") for square in squares]))
        scale = self._sign * self.rho / (norm + 1e-12)
        for_each(self._displace, batch.tracks, scalars=[scale])
        constrain(batch.tracks, when=batch.due)
        if batch.due is not None:
            # Those that wait stay where they were, whatever the norm is now.
            for_each(_stay, batch.tracks, before, scalars=[batch.due])

    def _square(self, track: Track, due: Any) -> Any:
        momentum = read(self._momenta[track.index], track.dtype)
        square = tf.reduce_sum(tf.square(momentum))
        return square if due is None else square * tf.cast(own(due, track), track.dtype)

    def _displace(self, track: Track, scale: Any) -> None:
        weights = read(track.variable, track.dtype)
        if track.variable.dtype != track.dtype:
            # Only the step: the weights are known better than 16 bits can hold.
            old = read(track.slots["weights"])
            held = tf.cast(tf.cast(old, track.variable.dtype), track.dtype)
            weights = old + (weights - held)
        momentum = read(self._momenta[track.index], track.dtype)
        write(track.slots["weights"], weights)
        write(track.variable, weights + tf.cast(scale, track.dtype) * momentum)


def _stay(track: Track, held: Any, due: Any) -> None:
    write(track.variable, tf.where(own(due, track), read(track.variable), held))


def _to_weights(track: Track) -> None:
    write(track.variable, read(track.slots["weights"]))


def _momentum(
    inner: keras.optimizers.Optimizer, variable: keras.Variable
) -> keras.Variable:
    """The inner optimizer's momentum of a variable."""
    name = f"{variable.path.replace('/', '_')}_momentum"
    if isinstance(inner, Optimizer):
        found = [v for k, v in inner.state(variable).items() if k == "momentum"]
    else:
        # Of Keras's optimizers only the names say what belongs to what.
        found = [v for v in inner.variables if v.name == name]
    if len(found) == 1:
        return found[0]
    kind = type(inner).__name__
    raise ValueError(
        f"MomentumSAM follows the momentum of its inner optimizer, and {kind} has "
        f"{len(found) or 'no'} variables {name!r}. Give it momentum, "
        "kopt.SGD(0.1, momentum=0.9), or take an optimizer that has it, kopt.Adam()."
    )
