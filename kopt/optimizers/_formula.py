"""What a method defines: its formula, its state, and what the engine must know."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import keras

from kopt.optimizers._descent import Step
from kopt.optimizers._plan import Slot
from kopt.optimizers._update import FUSE_FROM


class Formula:
    """The part of an optimizer that its paper gives.

    A method gives `slots` and `update`, or the two halves of `update`.
    """

    #: Whether `sparse="lazy"` may run the formula on some rows of a variable alone.
    elementwise = True
    #: Whether `update` has already multiplied its direction by the learning rate.
    scales_itself = False
    #: Whether `update` applies `step.weight_decay` itself, inside its formula.
    decays_itself = False
    #: Whether `measure` is asked before `update`.
    measures = False
    #: Whether `factor` is a part of the formula.
    rescales = False
    #: Whether large variables go through XLA; not worth it for a matrix factorization.
    fuses = True
    #: Whether they may go block by block: `next_state` and `direction` are the formula,
    #: and no slot's next value is made from another's next one.
    blockwise = False
    #: Whether it has so little arithmetic that XLA leaves a block on one core.
    cheap = False
    #: Whether `update` needs `step.seed`.
    draws = False
    #: Arguments of the method that become variables in `hyperparameters`; the formula
    #: finds them in `step.shared`.
    movable: tuple[str, ...] = ()
    #: Arguments that become so when something first moves them. The formula asks for
    #: them by `present`, and has the numbers themselves until then.
    may_move: tuple[str, ...] = ()
    #: From which number of weights on `kernel` serves a variable.
    kernel_from = FUSE_FROM
    #: How often `kernel` goes over memory.
    kernel_passes = 1
    #: Whether penalties with `proximal=True` are applied after each update.
    shrinks = True

    def slots(self, variable: keras.Variable) -> Mapping[str, float | Slot]:
        """The state of a variable: the name of each slot and its first value.

        A `Slot` has a shape of its own; a number stands for the variable's shape.
        """
        return {}

    def shared_slots(self) -> dict[str, float]:
        """Scalars that the method keeps for all variables, with their first values."""
        return {}

    def traits(self, variable: keras.Variable) -> Hashable:
        """What the formula must know of a variable beside shape and state.

        It is asked once, when the optimizer is built, and comes back in `step.traits`.
        """
        return None

    def decay_name(self, variable: keras.Variable) -> str:
        """The hyperparameter that is a variable's weight decay."""
        return "weight_decay"

    def once_per_step(
        self,
        step: Step,
        gradients: Sequence[Any],
        variables: Sequence[Any],
        states: Sequence[dict[str, Any]],
    ) -> dict[str, Any]:
        """Scalars that all variables share in one update; they become `step.shared`.

        Pure, like `update`. What is returned under a name of `shared_slots` is kept
        for the next update.

        Args:
            step: Number and learning rate of this update, float64 scalars, and under
                `shared` the present values of `shared_slots`.
            gradients: The clipped gradients of this update, summed over replicas.
            variables: Their variables.
            states: The variables' states by slot, as they were stored.
        """
        return {}

    def present(self, name: str, step: Step) -> Any:
        """An argument of `may_move` in one update: a number, or a tensor if it moves.

        Where it is the decay of a moment, the bias correction takes the power of the
        present value, as torch and optax do, and needs no state of its own. The product
        of all values would be exact: along `OneCycle` the steps differ from those with
        it by up to a third in a run of 20 steps, 17 % in one of 100 and 1.5 % in one
        of 1000. `NAdamW` has that product by its definition.
        """
        return step.shared[name] if name in step.shared else getattr(self, name)

    def measure(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> dict[str, Any]:
        """What a formula needs and XLA is slow at; it becomes `step.measured`.

        That is sums over a whole variable and products of matrices. Pure, with the
        arguments of `update`.
        """
        raise NotImplementedError

    def update(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> tuple[Any, dict[str, Any]]:
        """The formula: a direction, to be taken off the weights, and the next state.

        Pure: tensors in, tensors out, nothing assigned. A method gives this, or the two
        halves that follow if its direction needs no more of the state than the next.
        """
        new = self.next_state(gradient, variable, state, step)
        return self.direction(gradient, variable, new, step), new

    def next_state(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> dict[str, Any]:
        """The first half of the formula: the state after this update."""
        raise NotImplementedError

    def direction(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> Any:
        """The second half: a direction, from what `next_state` returned."""
        raise NotImplementedError

    def factor(self, direction: Any, variable: Any, step: Step) -> Any:
        """A number for the whole variable that its direction is multiplied by."""
        raise NotImplementedError

    def proximal_rate(self, step: Step) -> Any:
        """What a penalty with `proximal=True` is multiplied by after an update.

        That is how far a gradient of 1 moves a weight, where the method does not
        measure gradients by their own size.
        """
        return step.learning_rate

    def kernel(self) -> Callable[..., None] | None:
        """A TensorFlow kernel `(gradient, variable, state, step)` for the formula."""
        return None
