"""SOAP."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np
import tensorflow as tf
from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.optimizers import _rounding
from kopt.optimizers._base import CommonOptions, Optimizer
from kopt.optimizers._descent import Step
from kopt.optimizers._plan import Slot
from kopt.optimizers.adam import one_minus_power


@register("optimizers")
class SOAP(Optimizer):
    """SOAP: Adam in the slowly turning eigenbasis of Shampoo's preconditioner.

    For a loss whose directions are bent very differently, where it reaches a loss in
    fewer steps than AdamW, at the price of matrix products in each step and of a
    factorization every so many. For each axis of a weight, `preconditioner` follows the
    second moment of the gradient along that axis and `basis` its eigenvectors:

        G' = the gradient in the basis of every axis
        v = v + (1 - beta_2) (G'^2 - v)
        m = m + (1 - beta_1) (G - m)
        w = w - learning_rate (m' / (sqrt(v) + epsilon), brought back)
        preconditioner = preconditioner + (1 - beta_2) (G G^T - preconditioner)

    with Adam's bias corrections. The first update only measures the preconditioners.
    Then the basis follows by one step of power iteration and a QR factorization every
    `precondition_frequency` updates. Scalars and vectors are moved by Adam, and so are
    axes longer than `max_precondition_dim`.

    An axis longer than the others together has a preconditioner of deficient rank at
    first. Its eigenvectors of zero are completed in a fixed way, so that two programs
    of one training (graph and XLA, two machines) agree to rounding. Where an axis is
    also longer than the others times `precondition_frequency`, rounding still chooses
    a part of the basis when it turns, and two programs may end up to some steps'
    lengths apart (0.0004 after 12 steps at a rate of 0.01 for a 40 x 3 kernel).

    Args:
        learning_rate: A number, a schedule or a function without arguments. Defaults
            to `0.003`.
        weight_decay: Decay as a share of the weights, times the learning rate.
            Defaults to `0.01`.
        beta_1: Decay of the first moment, in [0, 1). Defaults to `0.95`.
        beta_2: Decay of the second moment, in [0, 1). Defaults to `0.95`.
        shampoo_beta: Decay of the preconditioners, in [0, 1). Defaults to `None`,
            `beta_2`.
        epsilon: Added to the root of the second moment. Defaults to `1e-8`.
        precondition_frequency: Updates between two turns of the basis. Defaults to
            `10`.
        max_precondition_dim: Longest axis that has a preconditioner, two square
            matrices of its length. Defaults to `10000`.
        name: Name of the optimizer. Defaults to `"soap"`.
        **options: The options of every kopt optimizer, see `kopt.optimizers.Optimizer`.

    Raises:
        ValueError: For a number outside its range.

    References:
        Vyas et al., 2024, "SOAP: Improving and Stabilizing Shampoo using Adam",
        arXiv:2409.11321.

    Example:

    >>> weight = keras.Variable([[1.0, 0.0], [0.0, 1.0]])
    >>> optimizer = kopt.SOAP(learning_rate=0.1, weight_decay=None)
    >>> for gradient in ([[2.0, 1.0], [1.0, 2.0]], [[1.0, 0.0], [0.0, 0.0]]):
    ...     optimizer.apply([keras.ops.convert_to_tensor(gradient)], [weight])
    >>> print(abs(weight.numpy()).round(2))  # the first gradient measures alone
    [[0.8 0. ]
     [0.  1. ]]
    """

    elementwise = False
    # XLA's factorizations on a processor are slow.
    fuses = False
    may_move = ("beta_1",)

    def __init__(
        self,
        learning_rate: Any = 0.003,
        weight_decay: float | None = 0.01,
        beta_1: float = 0.95,
        beta_2: float = 0.95,
        shampoo_beta: float | None = None,
        epsilon: float = 1e-8,
        precondition_frequency: int = 10,
        max_precondition_dim: int = 10_000,
        name: str = "soap",
        **options: Unpack[CommonOptions],
    ) -> None:
        super().__init__(learning_rate, name=name, weight_decay=weight_decay, **options)
        self.beta_1 = _checks.number("beta_1", beta_1, low=0, high=1, high_open=True)
        self.beta_2 = _checks.number("beta_2", beta_2, low=0, high=1, high_open=True)
        if shampoo_beta is not None:
            _checks.number("shampoo_beta", shampoo_beta, low=0, high=1, high_open=True)
        self.shampoo_beta = shampoo_beta
        self.epsilon = _checks.number("epsilon", epsilon, low=0)
        self.precondition_frequency = _checks.integer(
            "precondition_frequency", precondition_frequency, low=1
        )
        self.max_precondition_dim = _checks.integer(
            "max_precondition_dim", max_precondition_dim, low=1
        )

    def slots(self, variable: Any) -> dict[str, float | Slot]:
        slots: dict[str, float | Slot] = {"momentum": 0.0, "velocity": 0.0}
        for axis in self.traits(variable):
            length = variable.shape[axis]
            slots[f"preconditioner_{axis}"] = Slot((length, length))
            slots[f"basis_{axis}"] = Slot((length, length))
        return slots

    def traits(self, variable: Any) -> tuple[int, ...]:
        """The axes that have a preconditioner."""
        shape = tuple(variable.shape)
        if len(shape) < 2:
            return ()
        limit = self.max_precondition_dim
        return tuple(axis for axis, length in enumerate(shape) if length <= limit)

    def once_per_step(
        self, step: Step, gradients: Any, variables: Any, states: Any
    ) -> dict[str, Any]:
        beta_1 = self.present("beta_1", step)
        # The first update does not move anything: it is number 0.
        number = ops.maximum(step.number - 1, 1.0)
        correction_1 = one_minus_power(beta_1, number)
        correction_2 = one_minus_power(self.beta_2, number)
        return {
            "correction": ops.sqrt(correction_2) / correction_1,
            "plain_correction": ops.sqrt(one_minus_power(self.beta_2, step.number))
            / one_minus_power(beta_1, step.number),
        }

    def update(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> tuple[Any, dict[str, Any]]:
        axes = step.traits
        bases = {axis: state[f"basis_{axis}"] for axis in axes}
        turned = _turn(gradient, bases)
        share = 1 - self.present("beta_1", step)
        m = state["momentum"] + share * (gradient - state["momentum"])
        v = state["velocity"]
        v = v + (1 - self.beta_2) * (ops.square(turned) - v)
        direction = _turn(m, bases) / (ops.sqrt(v) + self.epsilon)
        if not axes:
            new = {"momentum": m, "velocity": v}
            return step.shared["plain_correction"] * direction, new
        direction = step.shared["correction"] * _turn(direction, bases, back=True)
        # Before the bases are known, all of this was zero times something.
        started = ops.cast(step.number > 1, gradient.dtype)
        moments = {"momentum": started * m, "velocity": started * v}
        return started * direction, self._turned(moments, gradient, state, step)

    def _turned(
        self, moments: dict[str, Any], gradient: Any, state: dict[str, Any], step: Step
    ) -> dict[str, Any]:
        """The next state: preconditioners follow, and at times their bases."""
        axes = step.traits
        beta = self.beta_2 if self.shampoo_beta is None else self.shampoo_beta
        followed = {}
        for axis in axes:
            present = state[f"preconditioner_{axis}"]
            new = present + (1 - beta) * (_outer(gradient, axis) - present)
            followed[axis] = new
        v = moments["velocity"]
        bases = [state[f"basis_{axis}"] for axis in axes]

        def first() -> list[Any]:
            return [v, *(_eigenvectors(followed[axis]) for axis in axes)]

        def turn() -> list[Any]:
            velocity, turned = v, []
            for axis, basis in zip(axes, bases, strict=True):
                image = ops.matmul(followed[axis], basis)
                order = ops.argsort(-ops.sum(basis * image, axis=0))
                velocity = ops.take(velocity, order, axis=axis)
                turned.append(ops.qr(ops.take(image, order, axis=1))[0])
            return [velocity, *turned]

        def later() -> list[Any]:
            due = (step.number - 1) % self.precondition_frequency == 0
            return ops.cond(due, turn, lambda: [v, *bases])

        velocity, *bases = ops.cond(step.number == 1, first, later)
        return {
            "momentum": moments["momentum"],
            "velocity": velocity,
            **{f"preconditioner_{axis}": followed[axis] for axis in axes},
            **{f"basis_{a}": basis for a, basis in zip(axes, bases, strict=True)},
        }


def _turn(tensor: Any, bases: dict[int, Any], back: bool = False) -> Any:
    """Bring a tensor into the basis of each axis, or out of it."""
    for axis, basis in bases.items():
        turned = ops.tensordot(tensor, basis, axes=[[axis], [1 if back else 0]])
        tensor = ops.moveaxis(turned, -1, axis)
    return tensor


def _outer(gradient: Any, axis: int) -> Any:
    """The products of a gradient's slices along an axis with each other."""
    rows = ops.moveaxis(gradient, axis, 0)
    rows = ops.reshape(rows, (rows.shape[0], -1))
    return ops.matmul(rows, ops.transpose(rows))


def _eigenvectors(matrix: Any) -> Any:
    """Eigenvectors as columns, the largest first.

    Those of zero are any basis of what the others leave over. It is made from fixed
    numbers, for the factorization would choose it by its rounding errors.
    """
    values, vectors = ops.eigh(matrix)
    values, vectors = ops.flip(values), ops.flip(vectors, axis=1)
    kind = matrix.dtype.as_numpy_dtype
    known = values > 8 * np.finfo(kind).eps * values[0]
    fixed = tf.cast(_rounding.noise(matrix, [1, 2]), kind) * 2.0**-32 - 0.5
    completed, _ = ops.qr(ops.where(known, vectors, fixed))
    return ops.where(known, vectors, completed)
