"""A training step that looks at the loss twice and changes the model once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf
from keras.optimizers.schedules import LearningRateSchedule

from kopt._keras.model_state import other_variables, read
from kopt._keras.scoped_values import NamedValues
from kopt._keras.training_step import predict_and_lose, track_loss
from kopt.sharpness import _methods
from kopt.sharpness._state import SharpnessState
from kopt.sharpness._vectors import Vector, arithmetic, dense, norm

Pass = Callable[[list[tf.Tensor]], list[Any]]


def train_step(model: Any, state: SharpnessState, data: Any) -> dict[str, Any]:
    """Keras's `train_step`, with a second gradient.

    The first pass is the ordinary one: it moves statistics, seeds and metrics. The
    second starts from what they were before, and leaves nothing behind.
    """
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    others = other_variables(model)
    before = [(v, read(v)) for v in others if isinstance(v, keras.Variable)]
    # A scope of Keras does not know TensorFlow's own variables.
    untracked = [(v, read(v)) for v in others if not isinstance(v, keras.Variable)]
    with tf.GradientTape() as tape:
        predictions, loss = predict_and_lose(model, x, y, sample_weight)
        track_loss(model, loss, x)
        loss = model.optimizer.scale_loss(loss)
    weights = model.trainable_weights
    if not weights:
        warnings.warn("The model does not have any trainable weights.", stacklevel=2)
        return model.compute_metrics(x, y, predictions, sample_weight=sample_weight)
    gradients = tape.gradient(loss, weights)
    # Float8 layers hand their new scales over as "gradients".
    moving = [
        place
        for place, (weight, gradient) in enumerate(zip(weights, gradients, strict=True))
        if gradient is not None
        and not getattr(weight, "overwrite_with_gradient", False)
    ]

    def gradients_at(values: list[tf.Tensor]) -> list[Any]:
        there = dict(zip(moving, values, strict=True))
        # All weights are listed: Keras asks the scope for those with a regularizer.
        mapping = [
            (weight, there.get(place, weight)) for place, weight in enumerate(weights)
        ]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            with _as_before(untracked), NamedValues([*before, *mapping]):
                _, loss = predict_and_lose(model, x, y, sample_weight)
            loss = model.optimizer.scale_loss(loss)
        found = tape.gradient(loss, values)
        _check_found(found, [weights[place] for place in moving])
        return found

    state.match(model)
    moved = _descent(
        model,
        state,
        [weights[place] for place in moving],
        [gradients[place] for place in moving],
        gradients_at,
    )
    for place, gradient in zip(moving, moved, strict=True):
        gradients[place] = gradient
    model.optimizer.apply_gradients(zip(gradients, weights, strict=True))
    return model.compute_metrics(x, y, predictions, sample_weight=sample_weight)


@contextmanager
def _as_before(values: list[tuple[tf.Variable, tf.Tensor]]) -> Iterator[None]:
    after = [read(variable) for variable, _ in values]
    for variable, value in values:
        variable.assign(value)
    yield
    for (variable, _), value in zip(values, after, strict=True):
        variable.assign(value)


def _descent(
    model: Any,
    state: SharpnessState,
    weights: list[keras.Variable],
    gradients: list[Any],
    gradients_at: Pass,
) -> list[Any]:
    """The gradients for the optimizer."""
    if not weights:
        return []
    settings, whole = state.settings, _Whole(state.settings.per_replica)
    if isinstance(settings.rho, LearningRateSchedule):
        rho = tf.cast(settings.rho(model.optimizer.iterations), tf.float64)
    else:
        rho = tf.constant(settings.rho, tf.float64)
    first = [arithmetic(gradient) for gradient in whole.sum(gradients)]

    def second() -> list[Any]:
        return gradients_at(_methods.uphill(weights, first, rho, settings.eta))

    if settings.variant == "gsam":
        assert settings.alpha is not None
        found = whole.sum(second())
        return whole.share(_methods.without_gap(weights, first, found, settings.alpha))
    if settings.variant == "looksam":
        return whole.share(_look(state, weights, first, second, whole))
    return second()


def _look(
    state: SharpnessState,
    weights: list[keras.Variable],
    first: Vector,
    second: Callable[[], list[Any]],
    whole: _Whole,
) -> list[Any]:
    """LookSAM: the second pass in one step of `period`, its sideways part in others."""
    settings, step = state.settings, state.step
    assert settings.alpha is not None and settings.period is not None
    assert step is not None
    alpha, period = settings.alpha, settings.period
    first = _all_dense(first, weights)
    directions = state.of(weights)
    looking = tf.equal(tf.convert_to_tensor(step) % period, 0)
    # Replicas meet between two conditions: inside of one they cannot.
    found = whole.sum(
        tf.cond(looking, lambda: _all_dense(second(), weights), lambda: first)
    )

    def look() -> tuple[list[Any], list[Any]]:
        return found, _methods.unit(_methods.across(found, first))

    def reuse() -> tuple[list[Any], list[Any]]:
        kept = [tf.convert_to_tensor(direction) for direction in directions]
        return _methods.reused(first, kept, alpha), kept

    result, new = tf.cond(looking, look, reuse)
    # A step whose gradients overflowed is none; the next one looks again.
    finite = tf.math.is_finite(norm(result))
    for direction, value in zip(directions, new, strict=True):
        direction.assign(tf.where(finite, value, direction))
    step.assign_add(tf.cast(finite, step.dtype))
    return result


class _Whole:
    """Gradients of the whole batch, where replicas have a part of it each."""

    def __init__(self, per_replica: bool) -> None:
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        self._replicas = 1 if per_replica else replicas

    def sum(self, gradients: list[Any]) -> list[Any]:
        if self._replicas == 1:
            return gradients
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)

    def share(self, gradients: list[Any]) -> list[Any]:
        """The share of a replica, as the optimizer is going to sum them up."""
        if self._replicas == 1:
            return gradients
        return _methods.scaled(gradients, tf.constant(1 / self._replicas, tf.float64))


def _all_dense(vector: Vector, weights: list[keras.Variable]) -> list[tf.Tensor]:
    return [dense(part, weight) for part, weight in zip(vector, weights, strict=True)]


def _check_found(gradients: list[Any], weights: list[keras.Variable]) -> None:
    pairs = zip(gradients, weights, strict=True)
    missing = [weight.path for gradient, weight in pairs if gradient is None]
    if missing:
        raise ValueError(
            "The second pass found no gradient for weights that have one in the "
            f"first: {', '.join(missing)}. A layer reads them in a way that other "
            "values cannot take their place, such as rematerialization "
            "(`keras.RematScope`) or a `tf.custom_gradient` around the weights. Train "
            "without that, or use `kopt.strip_sharpness_aware(model)`."
        )
