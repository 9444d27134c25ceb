"""APOLLO."""

from __future__ import annotations

import math
from typing import Any, Unpack

import tensorflow as tf
from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.optimizers._base import Optimizer, Options
from kopt.optimizers._descent import Step
from kopt.optimizers._plan import Slot
from kopt.optimizers.adam import one_minus_power


@register("optimizers")
class APOLLO(Optimizer):
    """APOLLO: Adam's learning rates, estimated on a small random projection.

    For models whose optimizer state does not fit: a matrix of m x n weights with m <= n
    keeps moments of `rank` x n instead of m x n, and of n numbers with `rank=1`. Adam
    runs on the projected gradient R = P G; how much it scales each channel of R is how
    much that channel of G is scaled:

        P: rank x m, normal with variance 1 / rank, anew every `update_gap` updates
        s_j = |adam(R)_j| / |R_j|          (or one s for the whole matrix)
        w = w - learning_rate sqrt(scale) G diag(s)

    with Adam's bias correction. Before that, the norm of G diag(s) may grow by 1 % an
    update at most. A kernel of higher rank
    counts as a matrix from its inputs to its outputs. Scalars, vectors and matrices
    whose shorter side is not longer than `rank` are moved by Adam.

    Args:
        learning_rate: A number, a schedule or a function without arguments. Defaults
            to `0.01`.
        beta_1: Decay of the first moment, in [0, 1). Defaults to `0.9`.
        beta_2: Decay of the second moment, in [0, 1). Defaults to `0.999`.
        epsilon: Added to the root of the second moment. Defaults to `1e-6`.
        rank: Rank of the projection, from 1. Defaults to `256`. APOLLO-Mini is
            `rank=1, scale=128, scale_type="tensor"`.
        update_gap: Updates between two projections. Defaults to `200`.
        scale: Square of a factor on the update. Defaults to `1.0`.
        scale_type: `"channel"` or `"tensor"`: what one factor s is for. Defaults to
            `"channel"`.
        seed: Seed of the projections, an integer. Defaults to `0`.
        name: Name of the optimizer. Defaults to `"apollo"`.
        **options: The options of every kopt optimizer, see `kopt.optimizers.Optimizer`.

    Raises:
        ValueError: For a number outside its range.

    References:
        Zhu et al., 2024, "APOLLO: SGD-like Memory, AdamW-level Performance",
        arXiv:2412.05270.

    Example:

    >>> weight = keras.Variable(np.ones((100, 200)))
    >>> optimizer = kopt.APOLLO(rank=4)
    >>> optimizer.build([weight])
    >>> tuple(optimizer.state(weight)["velocity"].shape)
    (4, 200)
    """

    elementwise = False
    draws = True
    may_move = ("beta_1",)

    def __init__(
        self,
        learning_rate: Any = 0.01,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        rank: int = 256,
        update_gap: int = 200,
        scale: float = 1.0,
        scale_type: str = "channel",
        seed: int = 0,
        name: str = "apollo",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, name=name, **options)
        self.beta_1 = _checks.number("beta_1", beta_1, low=0, high=1, high_open=True)
        self.beta_2 = _checks.number("beta_2", beta_2, low=0, high=1, high_open=True)
        self.epsilon = _checks.number("epsilon", epsilon, low=0)
        self.rank = _checks.integer("rank", rank, low=1)
        self.update_gap = _checks.integer("update_gap", update_gap, low=1)
        self.scale = _checks.number("scale", scale, low=0, low_open=True)
        self.scale_type = _checks.one_of(
            "scale_type", scale_type, ("channel", "tensor")
        )
        self.seed = _checks.integer("seed", seed, low=0)

    def slots(self, variable: Any) -> dict[str, float | Slot]:
        if self.traits(variable) is None:
            return {"momentum": 0.0, "velocity": 0.0}
        columns = max(_sides(variable.shape))
        slot = Slot((self.rank, columns))
        return {"momentum": slot, "velocity": slot, "norm": Slot(())}

    def traits(self, variable: Any) -> bool | None:
        """Whether a matrix has more inputs than outputs, or `None` for Adam."""
        if len(variable.shape) < 2:
            return None
        inputs, outputs = _sides(variable.shape)
        return None if min(inputs, outputs) <= self.rank else inputs > outputs

    def once_per_step(
        self, step: Step, gradients: Any, variables: Any, states: Any
    ) -> dict[str, Any]:
        correction_1 = one_minus_power(self.present("beta_1", step), step.number)
        correction_2 = one_minus_power(self.beta_2, step.number)
        return {"correction": ops.sqrt(correction_2) / correction_1}

    def update(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> tuple[Any, dict[str, Any]]:
        correction = step.shared["correction"]
        if step.traits is None:
            direction, new = self._adam(gradient, state, step)
            return correction * direction, new
        matrix = ops.reshape(gradient, _sides(gradient.shape))
        matrix = ops.transpose(matrix) if step.traits else matrix
        projected = ops.matmul(self._projection(matrix, step), matrix)
        direction, new = self._adam(projected, state, step)
        axis = 0 if self.scale_type == "channel" else None
        length = ops.sqrt(ops.sum(ops.square(projected), axis, keepdims=True))
        scaled = ops.sqrt(ops.sum(ops.square(direction), axis, keepdims=True))
        matrix, new["norm"] = self._limited(
            matrix * (scaled / (length + 1e-8)), state["norm"], step
        )
        matrix = ops.transpose(matrix) if step.traits else matrix
        factor = correction * math.sqrt(self.scale)
        return factor * ops.reshape(matrix, gradient.shape), new

    def _projection(self, matrix: Any, step: Step) -> Any:
        """The random projection, the same until it is due to change."""
        round_of = ops.cast((step.number - 1) // self.update_gap, "int32")
        seed = ops.stack([round_of, step.seed[1] + self.seed * 1_000_003])
        # Of the random functions, these bits alone are the same with and without XLA.
        bits = tf.random.stateless_uniform(
            (self.rank, matrix.shape[0]), seed, None, None, tf.uint32, "philox"
        )
        uniform = (ops.cast(bits // 256, matrix.dtype) + 0.5) / 2**24
        return ops.erfinv(2 * uniform - 1) * math.sqrt(2 / self.rank)

    def _limited(self, matrix: Any, last: Any, step: Step) -> tuple[Any, Any]:
        """A matrix whose norm is at most 1 % over the last, and its norm."""
        norm = ops.sqrt(ops.sum(ops.square(matrix)))
        excess = ops.maximum(norm / (last + 1e-8), 1.01) / 1.01
        excess = ops.where(step.number > 1, excess, ops.ones_like(excess))
        return matrix / excess, norm / excess

    def _adam(
        self, gradient: Any, state: dict[str, Any], step: Step
    ) -> tuple[Any, dict[str, Any]]:
        """Adam's direction, without its bias correction, and state."""
        m, v = state["momentum"], state["velocity"]
        m = m + (1 - self.present("beta_1", step)) * (gradient - m)
        v = v + (1 - self.beta_2) * (ops.square(gradient) - v)
        return m / (ops.sqrt(v) + self.epsilon), {"momentum": m, "velocity": v}


def _sides(shape: Any) -> tuple[int, int]:
    """Inputs and outputs of a kernel."""
    return math.prod(shape[:-1]), shape[-1]
