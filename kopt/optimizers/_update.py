"""How a variable is written, by its size.

A small one goes operation by operation. A large one goes through TensorFlow's
single-pass kernel, where the method names one, or else through one small XLA program a
shape, in blocks where the formula allows it; sums over the whole variable stay outside
of that program. A row-sparse gradient in lazy mode updates its rows alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from kopt._keras.xla import within_xla
from kopt.optimizers import _blocks
from kopt.optimizers._descent import Step, advance, descend
from kopt.optimizers._plan import Plan
from kopt.optimizers._sparse import is_sparse

if TYPE_CHECKING:
    from kopt.optimizers._base import Optimizer

# From this many weights on, one pass over memory is worth an XLA program (about 0.1 s
# of compilation for each distinct shape); `benchmarks/optimizer_step.py` shows both.
FUSE_FROM = 2**16


class Updater:
    """Writes variables; holds the compiled programs of one optimizer."""

    def __init__(self, optimizer: Optimizer, replicas: int) -> None:
        self._optimizer = optimizer
        # Across replicas each device has a copy of its own to write.
        self._may_compile = replicas == 1
        self._programs: dict[Any, Callable[..., Any]] = {}

    def write(self, plan: Plan, gradient: Any, step: Step) -> None:
        """Give a variable and its state their next values."""
        variable = plan.variable.value
        state = {name: slot.value for name, slot in plan.state.items()}
        given = gradient, variable, state, step
        write = self._write_exact if plan.exact else self._write_rounded
        if is_sparse(gradient):
            self._write_rows(plan, *given)
        elif kernel := self._kernel(plan):
            kernel(*given)
        elif self._goes_in_blocks(plan):
            self._program(plan, self._write_blocks)(*given)
        elif not self._may_compile or plan.size < FUSE_FROM:
            write(*given)
        elif self._is_rescaled_alone(plan):
            self._write_in_two(plan, *given)
        elif self._is_measured_first(plan):
            self._write_measured(plan, *given)
        elif self._optimizer.fuses:
            self._program(plan, write)(*given)
        else:
            write(*given)

    def _goes_in_blocks(self, plan: Plan) -> bool:
        method = self._optimizer
        return (
            method.blockwise
            and self._may_compile
            and plan.exact
            and not method.cautious
            and _blocks.count(method, plan.size) > 1
            # In one program with the rest of the step they are slower than the whole.
            and not within_xla()
            # A graphics card would run one block after the other.
            and "CPU" in plan.variable.value.device
        )

    def _kernel(self, plan: Plan) -> Callable[..., None] | None:
        """The method's own kernel, where nothing but the bare formula is asked for."""
        method = self._optimizer
        plain = (
            plan.exact
            and plan.weight_decay is None
            and not method.cautious
            and (plan.group is None or not method.scales_itself)
            and plan.size >= method.kernel_from
        )
        blocks_are_better = method.kernel_passes > 1 and self._goes_in_blocks(plan)
        return method.kernel() if plain and not blocks_are_better else None

    def _is_rescaled_alone(self, plan: Plan) -> bool:
        """Whether a factor on the whole direction is all that comes after it."""
        method = self._optimizer
        return (
            method.rescales
            and plan.exact
            and not method.cautious
            and not method.scales_itself
            and (plan.weight_decay is None or method.decays_itself)
            and method.weight_decay_mode not in ("l2", "cautious")
        )

    def _is_measured_first(self, plan: Plan) -> bool:
        """Whether a measure of the bare gradient is all that comes before the rest."""
        method = self._optimizer
        return method.measures and plan.exact and method.weight_decay_mode != "l2"

    # XLA sums on one core, and computes once more what it sums: what is summed over a
    # whole variable is left to TensorFlow, before the formula or after it. So are
    # products of bfloat16 matrices, which take XLA twice as long.

    def _write_measured(
        self,
        plan: Plan,
        gradient: Any,
        variable: Any,
        state: dict[str, Any],
        step: Step,
    ) -> None:
        measured = self._optimizer.measure(gradient, *_values(variable, state), step)
        step = step._replace(measured=measured)
        self._program(plan, self._write_exact)(gradient, variable, state, step)

    def _write_in_two(
        self,
        plan: Plan,
        gradient: Any,
        variable: Any,
        state: dict[str, Any],
        step: Step,
    ) -> None:
        program = self._program(plan, self._write_state)
        direction = program(gradient, variable, state, step)
        present = tf.convert_to_tensor(variable)
        factor = self._optimizer.factor(direction, present, step)
        _go_down(variable, step.learning_rate * factor, direction)

    def _program(self, plan: Plan, function: Callable[..., Any]) -> Callable[..., Any]:
        # A function for each signature: one function for all would be traced anew at
        # every shape, and TensorFlow warns of that.
        state = tuple((tuple(s.shape), s.dtype) for s in plan.state.values())
        grouped = plan.group is not None
        key = (
            function.__name__,
            tuple(plan.variable.shape),
            plan.variable.dtype,
            state,
            grouped,
            plan.weight_decay is not None,
            plan.traits,
        )
        if key not in self._programs:
            self._programs[key] = tf.function(function, jit_compile=True)
        return self._programs[key]

    def _write_exact(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> None:
        present = _values(variable, state)
        rate, direction, new = descend(self._optimizer, gradient, *present, step)
        _go_down(variable, rate, direction)
        _assign(state, new)

    def _write_rounded(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> None:
        present = _values(variable, state)
        weights, new = advance(self._optimizer, gradient, *present, step)
        variable.assign(weights, read_value=False)
        _assign(state, new)

    def _write_blocks(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> None:
        present = _values(variable, state)
        weights, new = _blocks.descended(self._optimizer, gradient, *present, step)
        variable.assign(weights, read_value=False)
        _assign(state, new)

    def _write_state(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> Any:
        weights, values = _values(variable, state)
        direction, new = self._optimizer.update(gradient, weights, values, step)
        _assign(state, new)
        return direction

    def _write_rows(
        self,
        plan: Plan,
        gradient: Any,
        variable: Any,
        state: dict[str, Any],
        step: Step,
    ) -> None:
        rows, values = gradient.indices, gradient.values
        weights = _read_rows(variable, rows)
        present = {name: _read_rows(slot, rows) for name, slot in state.items()}
        if plan.exact:
            rate, direction, new = descend(
                self._optimizer, values, weights, present, step
            )
            tf.raw_ops.ResourceScatterSub(
                resource=variable.handle, indices=rows, updates=rate * direction
            )
        else:
            weights, new = advance(self._optimizer, values, weights, present, step)
            _replace_rows(variable, rows, weights)
        for name, value in new.items():
            _replace_rows(state[name], rows, value)


def _values(variable: Any, state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    # Not `read_value`, which adds an operation to each read.
    values = {name: tf.convert_to_tensor(slot) for name, slot in state.items()}
    return tf.convert_to_tensor(variable), values


def _go_down(variable: Any, rate: Any, direction: Any) -> None:
    # One operation in place of two, and one that does not read the weights first, as
    # a formula without them need not.
    tf.raw_ops.ResourceApplyGradientDescent(
        var=variable.handle, alpha=rate, delta=direction
    )


# By its handle: a variable with a copy on each device does not know `sparse_read`, and
# gives the handle of the copy on the device in hand.


def _read_rows(variable: Any, rows: Any) -> Any:
    return tf.raw_ops.ResourceGather(
        resource=variable.handle, indices=rows, dtype=variable.dtype
    )


def _replace_rows(variable: Any, rows: Any, values: Any) -> None:
    tf.raw_ops.ResourceScatterUpdate(
        resource=variable.handle, indices=rows, updates=values
    )


def _assign(state: dict[str, Any], new: dict[str, Any]) -> None:
    for name, value in new.items():
        state[name].assign(value, read_value=False)
