"""What happens between a model's gradients and its new weights, in order."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
from keras import ops

from kopt._kernels.axes import axes_of
from kopt.optimizers import _proximal, _transforms
from kopt.optimizers._accumulation import Counts
from kopt.optimizers._averages import Averages, constrain
from kopt.optimizers._descent import Step
from kopt.optimizers._plan import Plan
from kopt.optimizers._sparse import is_sparse, map_values, nonzero_rows, sum_duplicates
from kopt.optimizers._update import Updater

if TYPE_CHECKING:
    from kopt.optimizers._base import Optimizer


class Engine:
    """Runs the updates of one built optimizer.

    Args:
        optimizer: The optimizer, with its formula and flags.
        plans: One plan a variable, in the order of the variables.
    """

    def __init__(self, optimizer: Optimizer, plans: list[Plan]) -> None:
        self.plans = plans
        self._optimizer = optimizer
        self._replicas = tf.distribute.get_strategy().num_replicas_in_sync
        self._updater = Updater(optimizer, self._replicas)
        self.counts = self.averages = None
        if optimizer.gradient_accumulation_steps:
            self.counts = Counts(optimizer, len(plans))
        #: While constraints are applied: which variables take a step, by `id`;
        #: `None` where all that have a gradient do.
        self.moving: dict[int, Any] | None = None
        if any(plan.average is not None for plan in plans):
            self.averages = Averages(optimizer, plans)

    def take_step(self, gradients: list[Any], positions: list[int]) -> Any:
        """Update variables by raw gradients, or add these to the accumulators.

        Returns:
            How far the counter of batches is to go.
        """
        plans = [self.plans[position] for position in positions]
        scale = self._optimizer.loss_scale_factor
        if scale is not None:
            gradients = [map_values(lambda g: g / scale, g) for g in gradients]
        if self._replicas > 1:
            context = tf.distribute.get_replica_context()
            gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        if self.averages is not None:
            self.averages.settle()
        counted: Any = 1
        if self.counts is not None:
            counted = self._accumulate(gradients, plans)
        else:
            self._update(gradients, plans)
        if self.averages is not None:
            self.averages.note(self._optimizer.batches.value + counted)
        return counted

    def _accumulate(self, gradients: list[Any], plans: list[Plan]) -> Any:
        """Add up gradients; update variables by the mean of enough of them."""
        assert self.counts is not None  # Asked before.
        given = tf.nest.flatten(gradients, expand_composites=True)
        # After the gradients: a batch that turns out to be missing must not count.
        with tf.control_dependencies(given):
            received = self.counts.received(plans)
        self._add_or_update(gradients, plans, received.due)
        return self.counts.close(received)

    def _add_or_update(self, gradients: list[Any], plans: list[Plan], due: Any) -> None:
        def add(gradients: list[Any], due: Any) -> None:
            self._for_each(_add_to_accumulator, plans, gradients)

        def update(gradients: list[Any], due: Any) -> None:
            self._update(self._means(gradients, plans), plans)
            self._for_each(_clear_accumulator, plans)

        def update_some(gradients: list[Any], due: Any) -> None:
            flags = tf.unstack(due, num=len(plans))
            self._update(self._means(gradients, plans), plans, flags)
            self._for_each(_clear_or_add, plans, gradients, flags)

        def some(due: Any, run: Callable[[Callable[..., None]], Any]) -> None:
            """Take the branch for all variables, or look at each of them."""
            if len(plans) == 1:
                run(update)()
            else:
                tf.cond(tf.reduce_all(due), run(update), run(update_some))

        if self._replicas == 1:

            def here(branch: Callable[..., None]) -> Callable[[], None]:
                return lambda: branch(gradients, due)

            tf.cond(tf.reduce_any(due), lambda: some(due, here), here(add))
            return

        # A condition may not contain a meeting of the replicas, so it is evaluated
        # where they have met, and sends all of them down the same branch.
        def choose(strategy: tf.distribute.Strategy, gradients: Any, due: Any) -> None:
            def send(branch: Callable[..., None]) -> Callable[[], None]:
                def on_replica(gradients: list[Any], due: Any) -> None:
                    # A thread of its own: it does not know yet who is calling.
                    with keras.name_scope(self._optimizer.name, caller=self._optimizer):
                        branch(gradients, due)

                def run() -> None:
                    strategy.extended.call_for_each_replica(
                        on_replica, args=(gradients, due)
                    )

                return run

            met = strategy.experimental_local_results(due)[0]
            tf.cond(tf.reduce_any(met), lambda: some(met, send), send(add))

        context = tf.distribute.get_replica_context()
        context.merge_call(choose, args=(gradients, due))

    def _means(self, gradients: list[Any], plans: list[Plan]) -> list[Any]:
        """The means of the accumulated gradients and the last ones."""
        every = self._optimizer.gradient_accumulation_steps
        lazy = self._optimizer.sparse == "lazy"
        means = [_mean(p, g, every) for p, g in zip(plans, gradients, strict=True)]
        return [
            nonzero_rows(mean) if lazy and is_sparse(gradient) else mean
            for mean, gradient in zip(means, gradients, strict=True)
        ]

    def _update(
        self, gradients: list[Any], plans: list[Plan], due: list[Any] | None = None
    ) -> None:
        """Update variables by their gradients; under `due` only where it is true."""
        ready = [self._readied(g, p) for g, p in zip(gradients, plans, strict=True)]
        flags = [None] * len(plans) if due is None else due
        if due is not None:
            # Norms and sums over all gradients are to be those of the due ones.
            ready = [_where(flag, g) for flag, g in zip(due, ready, strict=True)]
        ready = self._clipped(ready)
        steps = self._steps(ready, plans, due)
        if due is None:
            self._for_each(self._updater.write, plans, ready, steps)
        else:
            self._for_each(self._write_where, plans, ready, steps, flags)
        _proximal.shrink(self._for_each, self._optimizer, plans, steps, due)
        # As in Keras, constraints come when all variables have moved: one may look at
        # several of them.
        if due is not None:
            pairs = zip(plans, due, strict=True)
            self.moving = {id(plan.variable): flag for plan, flag in pairs}
        for plan, flag in zip(plans, flags, strict=True):
            constrain(plan.variable, flag)
        self.moving = None
        if self.averages is None:
            return
        averaged = [i for i, plan in enumerate(plans) if plan.average is not None]
        columns = [] if due is None else [[due[i] for i in averaged]]
        self._for_each(self.averages.move, [plans[i] for i in averaged], *columns)
        _proximal.keep_zeros_of_averages(self._for_each, [plans[i] for i in averaged])

    def _write_where(self, plan: Plan, gradient: Any, step: Step, due: Any) -> None:
        tf.cond(due, lambda: self._updater.write(plan, gradient, step), lambda: None)

    def _readied(self, gradient: Any, plan: Plan) -> Any:
        """Dense, or rows without duplicates, in the dtype of the arithmetic."""
        if is_sparse(gradient):
            if self._rows_will_do(plan):
                gradient = sum_duplicates(gradient)
                rows = gradient.indices
                return map_values(
                    lambda values: self._by_unit(values, plan, rows), gradient
                )
            gradient = tf.math.unsorted_segment_sum(
                gradient.values, gradient.indices, plan.variable.shape[0]
            )
        return self._by_unit(gradient, plan)

    def _by_unit(self, gradient: Any, plan: Plan, rows: Any = None) -> Any:
        """Centralized and clipped by unit, in the dtype of the arithmetic.

        Args:
            gradient: A dense gradient, or its `rows` alone. Then each row is a unit.
            plan: The plan of its variable.
            rows: The indices of these rows.
        """
        optimizer = self._optimizer
        gradient = tf.cast(gradient, plan.dtype)
        if not optimizer.gradient_centralization and optimizer.agc is None:
            return gradient
        if rows is None:
            within = self._within_units[plan.index]
        else:
            within = tuple(range(1, len(plan.variable.shape)))
        if optimizer.gradient_centralization:
            gradient = _transforms.centralize(gradient, within)
        if optimizer.agc is not None:
            weights = plan.variable.value
            present = weights if rows is None else tf.gather(weights, rows)
            gradient = _transforms.clip_adaptively(
                gradient, tf.cast(present, plan.dtype), within, optimizer.agc
            )
        return gradient

    @functools.cached_property
    def _within_units(self) -> list[tuple[int, ...] | None]:
        """The axes that a unit of each variable spans, or `None` for vectors."""
        # Not before it is needed: it takes longer than all else that is settled.
        kernels = axes_of([plan.variable for plan in self.plans])
        return [None if axes is None else axes.within_unit for axes in kernels]

    def _rows_will_do(self, plan: Plan) -> bool:
        """Whether the rows that a gradient names are the only ones to be touched."""
        optimizer = self._optimizer
        if not optimizer.elementwise:
            return False
        if optimizer.sparse == "lazy":
            return True
        # Without state and decay, the other rows would not move: a shortcut.
        return not (
            plan.state
            or plan.weight_decay is not None
            or optimizer.gradient_centralization
            or optimizer.agc
            or optimizer.cautious
        )

    def _clipped(self, gradients: list[Any]) -> list[Any]:
        optimizer = self._optimizer
        values = [g.values if is_sparse(g) else g for g in gradients]
        if optimizer.clipnorm:
            limit = optimizer.clipnorm
            values = [_transforms.clip_by_norm(v, limit) for v in values]
        elif optimizer.global_clipnorm:
            values = _transforms.clip_by_global_norm(values, optimizer.global_clipnorm)
        elif optimizer.clipvalue:
            limit = optimizer.clipvalue
            values = [ops.clip(v, -limit, limit) for v in values]
        else:
            return gradients
        return [
            tf.IndexedSlices(v, g.indices, g.dense_shape) if is_sparse(g) else v
            for v, g in zip(values, gradients, strict=True)
        ]

    def _steps(
        self, gradients: list[Any], plans: list[Plan], due: list[Any] | None
    ) -> list[Step]:
        """Each variable's scalars; what variables share is computed once."""
        number = ops.cast(self._optimizer.iterations + 1, "float64")
        rate = self._optimizer.learning_rate
        states = [
            {name: slot.value for name, slot in plan.state.items()} for plan in plans
        ]
        if due is not None:
            # Nor are the states of the others to count in what variables share.
            states = [
                {name: tf.where(flag, slot, tf.zeros_like(slot)) for name, slot in s}
                for flag, s in zip(due, (s.items() for s in states), strict=True)
            ]
        shared = self._shared(number, rate, gradients, plans, states)
        steps = {
            dtype: Step(
                number=tf.cast(number, dtype),
                learning_rate=ops.cast(rate, dtype),
                shared={name: ops.cast(v, dtype) for name, v in shared.items()},
            )
            for dtype in {plan.dtype for plan in plans}
        }
        return [self._own(steps[plan.dtype], plan, number) for plan in plans]

    def _shared(
        self,
        number: Any,
        rate: Any,
        gradients: list[Any],
        plans: list[Plan],
        states: list[dict[str, Any]],
    ) -> dict[str, Any]:
        """What the method computes once for all variables; some of it is kept."""
        optimizer = self._optimizer
        kept = optimizer.shared_state
        present = {name: ops.cast(kept[name], "float64") for name in kept}
        moving = {
            name: ops.cast(variable, "float64")
            for name, variable in optimizer.hyperparameters.items()
            if name in optimizer.may_move
        }
        shared = optimizer.once_per_step(
            Step(number, ops.cast(rate, "float64"), {**present, **moving}),
            gradients,
            [plan.variable.value for plan in plans],
            states,
        )
        for name, variable in kept.items():
            variable.assign(ops.cast(shared[name], variable.dtype))
        names = set(optimizer.movable) & set(optimizer.hyperparameters)
        moved = {name: optimizer.hyperparameters[name] for name in names}
        return {**shared, **moved, **moving}

    def _own(self, step: Step, plan: Plan, number: Any) -> Step:
        """The scalars that are a variable's own."""
        step = step._replace(traits=plan.traits)
        if plan.weight_decay is not None:
            decay = ops.cast(plan.weight_decay, plan.dtype)
            reference = self._optimizer.reference_rate
            mode = self._optimizer.weight_decay_mode
            if mode == "independent":
                decay = decay / reference
            elif mode == "corrected":
                decay = decay * (step.learning_rate / reference)
            step = step._replace(weight_decay=decay)
        if plan.factor is not None:
            factor = ops.cast(plan.factor, plan.dtype)
            step = step._replace(
                learning_rate=step.learning_rate * factor,
                moves=tf.cast(factor > 0, plan.dtype),
            )
        if plan.rounds_at_random or self._optimizer.draws:
            seed = tf.stack([tf.cast(number, tf.int32), plan.index])
            step = step._replace(seed=seed)
        return step

    def _for_each(
        self, function: Callable[..., None], plans: list[Plan], *columns: Sequence[Any]
    ) -> None:
        """Call `function(plan, ...)` for every variable, on each of its devices."""
        if self._replicas == 1:
            for plan, *row in zip(plans, *columns, strict=True):
                function(plan, *row)
            return
        if not plans:
            return

        def meet(strategy: tf.distribute.Strategy, *columns: Any) -> None:
            for plan, *row in zip(plans, *columns, strict=True):
                strategy.extended.update(
                    plan.variable.value,
                    lambda _, *row, plan=plan: function(plan, *row),
                    args=tuple(row),
                    group=False,
                )

        tf.distribute.get_replica_context().merge_call(meet, args=columns)


def _add_to_accumulator(plan: Plan, gradient: Any) -> None:
    accumulator = plan.accumulator.value
    gradient = map_values(lambda values: tf.cast(values, plan.dtype), gradient)
    if is_sparse(gradient):
        accumulator.scatter_add(gradient)
    else:
        accumulator.assign_add(gradient)


def _clear_accumulator(plan: Plan) -> None:
    accumulator = plan.accumulator.value
    accumulator.assign(tf.zeros_like(accumulator))


def _clear_or_add(plan: Plan, gradient: Any, due: Any) -> None:
    tf.cond(
        due,
        lambda: _clear_accumulator(plan),
        lambda: _add_to_accumulator(plan, gradient),
    )


def _where(due: Any, gradient: Any) -> Any:
    """The gradient, or zeros where nothing is due."""
    return map_values(lambda values: tf.where(due, values, 0.0), gradient)


def _mean(plan: Plan, gradient: Any, count: int) -> Any:
    """The mean of the accumulated gradients and the last one."""
    accumulated = tf.convert_to_tensor(plan.accumulator.value)
    gradient = map_values(lambda values: tf.cast(values, plan.dtype), gradient)
    if is_sparse(gradient):
        gradient = tf.math.unsorted_segment_sum(
            gradient.values, gradient.indices, accumulated.shape[0]
        )
    return (accumulated + gradient) / count
