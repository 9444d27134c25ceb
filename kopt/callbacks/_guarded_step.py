"""A training step that leaves nothing behind where its loss or gradients are bad.

Keras's step moves statistics, seeds and metrics in the pass forward, and weights and
the optimizer's state when it calls `optimizer.apply`. Here that call is a branch of the
graph, as in Keras's own loss scaling, which is not taken after a bad pass; and what the
pass has moved is put back. Both happen inside of the compiled step, so also in the
midst of several steps an execution. The model's `train_step` stays the one that it is.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kopt._keras.model_state import moved_by_passes, read
from kopt.callbacks import _spikes
from kopt.callbacks._step_guard import run_what_waits

#: What was bad, by the number that stands for it in the graph.
REASONS = (
    "",
    "the loss was not finite",
    "gradients were not finite",
    "the loss was a spike",
    "gradients were a spike",
)


class Limits(NamedTuple):
    """When a step is bad.

    Args:
        loss_z: How many standard deviations the loss may lie above its mean.
        gradient_z: The same of the norm of all gradients.
        warmup: How many good steps there have to be before either counts.
        decay: Share of the past in the means.
    """

    loss_z: float | None
    gradient_z: float | None
    warmup: int
    decay: float


class GuardedStep:
    """Stands in the place of the compiled training step of a model in `fit`.

    Nothing of it is called in a later `fit` that does not `expect` it, also where this
    one was interrupted.

    Args:
        model: A compiled model, in `fit`.
        limits: When a step is bad.
    """

    def __init__(self, model: Any, limits: Limits) -> None:
        self._model = model
        self._limits = limits
        self._replicas = model.distribute_strategy.num_replicas_in_sync
        self._passes = threading.local()
        self._expecting = False
        with model.distribute_strategy.scope():
            #: Bad steps in all, bad ones in a row, and what was bad of the last.
            self.counts = _variable(np.zeros(3), "int64")
            #: Statistics of the loss and of the norm of gradients.
            self.statistics = _variable(np.zeros((2, 3)), "float64")
        # Not the method itself, which would lead from the model to the variables here,
        # and they are no part of the model's state.
        self._guarded = functools.partial(self._run)
        self._put_in()

    def expect(self) -> None:
        """Guard the coming batches, whoever has made a new step meanwhile."""
        self._expecting = True
        if self._model.train_function is not self._guarded:
            self._put_in()

    def remove(self) -> None:
        """Give the model its own step back."""
        if self._model.train_function is self._guarded:
            self._model.train_function = self._own_function

    def _put_in(self) -> None:
        model = self._model
        run_what_waits(model)
        self._own_function, self._own_step = model.train_function, model.train_step
        # Keras makes the function of the step that the model has when it is made.
        kept = vars(model).get("train_step")
        vars(model)["train_step"] = self._step
        try:
            model.make_train_function(force=True)
        finally:
            del vars(model)["train_step"]
            if kept is not None:
                vars(model)["train_step"] = kept
        self._function = model.train_function
        model.train_function = self._guarded

    def _run(self, iterator: Any) -> Any:
        expecting, self._expecting = self._expecting, False
        if not expecting:
            self.remove()
            return self._own_function(iterator)
        # Present while the step is traced; the optimizer stays as it is otherwise.
        optimizer = self._model.optimizer
        self._own_apply, self._own_scale = optimizer.apply, optimizer.scale_loss
        vars(optimizer).update(apply=self._apply, scale_loss=self._scale_loss)
        try:
            return self._function(iterator)
        except (StopIteration, tf.errors.OutOfRangeError):
            raise  # The end of the data.
        except BaseException:
            self.remove()
            raise
        finally:
            del vars(optimizer)["apply"], vars(optimizer)["scale_loss"]

    # In the graph, on each replica.

    def _step(self, data: Any) -> Any:
        """The model's own step, and back again where it was bad."""
        model = self._model
        kept = [(variable, read(variable)) for variable in moved_by_passes(model)]
        self._passes.loss = self._passes.bad = None
        logs = self._own_step(data)
        bad = self._passes.bad
        if bad is None:
            raise ValueError(
                f"The `train_step` of {type(model).__name__} does not call "
                "`model.optimizer.apply` or `apply_gradients`, so SpikeGuard cannot "
                "keep a bad step from it. Train without it."
            )
        self._put_back(kept, bad)
        metrics = model.get_metrics_result()
        same = isinstance(logs, dict) and set(logs) == set(metrics)
        return metrics if same else logs

    def _put_back(self, kept: list[tuple[Any, Any]], bad: Any) -> None:
        if self._replicas == 1:

            def put_back() -> None:
                for variable, value in kept:
                    variable.assign(value)

            tf.cond(bad, put_back, lambda: None)
            return
        # An assignment is a meeting of the replicas, which no condition may contain.
        for variable, value in kept:
            variable.assign(tf.where(bad, value, read(variable)))

    def _scale_loss(self, loss: Any) -> Any:
        self._passes.loss = loss
        return self._own_scale(loss)

    def _apply(
        self,
        grads: Sequence[Any],
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> None:
        optimizer, grads = self._model.optimizer, list(grads)
        if not grads:
            return
        if not optimizer.built and trainable_variables is not None:
            with tf.init_scope():
                optimizer.build(list(trainable_variables))
        bad = self._judged(grads)
        before = self._passes.bad
        self._passes.bad = bad if before is None else before | bad
        apply = self._own_apply

        def step(grads: list[Any]) -> None:
            apply(grads, trainable_variables)

        if self._replicas == 1:
            tf.cond(bad, lambda: None, lambda: step(grads))
            return

        # The replicas meet in the optimizer, which no condition on a replica may
        # contain: they have met here, and are sent down the same branch.
        def choose(strategy: tf.distribute.Strategy, bad: Any, grads: Any) -> None:
            met = strategy.experimental_local_results(bad)[0]

            def send() -> None:
                strategy.extended.call_for_each_replica(step, args=(grads,))

            tf.cond(met, lambda: None, send)

        context = tf.distribute.get_replica_context()
        context.merge_call(choose, args=(bad, grads))

    def _judged(self, grads: list[Any]) -> Any:
        """Whether the step is bad; counts it."""
        limits, scale = self._limits, tf.cast(self._own_scale(1.0), tf.float64)
        loss = self._passes.loss
        if loss is None and limits.loss_z is not None:
            raise ValueError(
                f"The `train_step` of {type(self._model).__name__} does not hand its "
                "loss to `model.optimizer.scale_loss`, so SpikeGuard does not know it. "
                "Leave `loss_z` out; `gradient_z` looks at the gradients."
            )
        # The loss of a replica is its share of the whole.
        loss = tf.constant(0.0, tf.float64) if loss is None else loss
        loss = tf.reduce_sum(tf.cast(loss, tf.float64))
        values = self._total([loss, *self._squares(grads)])
        loss, norm = values[0], tf.sqrt(tf.add_n(values[1:])) / scale
        statistics = tf.unstack(read(self.statistics))
        reasons = [~tf.math.is_finite(loss), ~tf.math.is_finite(norm)]
        if isinstance(self._model.optimizer, keras.optimizers.LossScaleOptimizer):
            # It has to see them, to lower the scale that they have overflowed by.
            reasons[1] = tf.constant(False)
        for value, own, z in zip(
            (loss, norm), statistics, (limits.loss_z, limits.gradient_z), strict=True
        ):
            spike = tf.constant(False)
            if z is not None:
                spike = _spikes.is_spike(value, own, z, limits.warmup)
            reasons.append(spike)
        flags = tf.stack(reasons)
        bad = tf.reduce_any(flags)
        self._count(bad, tf.argmax(flags) + 1)
        good = ~bad & tf.math.is_finite(norm)
        moved = [
            _spikes.following(value, own, limits.decay)
            for value, own in zip((loss, norm), statistics, strict=True)
        ]
        self.statistics.assign(tf.where(good, tf.stack(moved), tf.stack(statistics)))
        return bad

    def _count(self, bad: Any, reason: Any) -> None:
        skipped, in_a_row, _ = tf.unstack(read(self.counts))
        after_bad = tf.stack([skipped + 1, in_a_row + 1, reason])
        after_good = tf.stack([skipped, tf.zeros_like(in_a_row), tf.zeros_like(reason)])
        self.counts.assign(tf.where(bad, after_bad, after_good))

    def _squares(self, grads: list[Any]) -> list[Any]:
        """The sums of the squares of each gradient."""
        present = [gradient for gradient in grads if gradient is not None]
        if self._replicas > 1 and self._limits.gradient_z is not None:
            # The norm of the whole batch's gradient; each replica then has its share.
            present = self._total(present)
            share = 1.0 / self._replicas
        else:
            share = 1.0
        values = [
            gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient
            for gradient in present
        ]
        # `l2_loss` goes over memory once.
        return [tf.cast(tf.nn.l2_loss(v), tf.float64) * (2.0 * share) for v in values]

    def _total(self, values: list[Any]) -> list[Any]:
        if self._replicas == 1:
            return values
        context = tf.distribute.get_replica_context()
        summed: list[Any] = context.all_reduce(tf.distribute.ReduceOp.SUM, values)
        return summed


def _variable(value: np.ndarray, dtype: str) -> keras.Variable:
    return keras.Variable(
        value, dtype=dtype, trainable=False, aggregation="only_first_replica"
    )
