"""The base of optimizers that stand around another one."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kopt._keras.optimizer_adapter import KerasDoor
from kopt._variables import checked_variables
from kopt.optimizers import _proximal, _saving
from kopt.optimizers._base import Optimizer
from kopt.optimizers._fingerprints import Fingerprints
from kopt.optimizers._movable import Movable
from kopt.optimizers._places import NEW, Places
from kopt.optimizers._plan import Slot
from kopt.optimizers._resetting import Resettable, reset
from kopt.optimizers._tracks import Batch, Track, make_tracks
from kopt.optimizers._two_points import UNKNOWN, TwoPoints


class Wrapper(Movable, TwoPoints, Resettable, KerasDoor):
    """What all wrappers share: the inner optimizer, its rate, and two sets of weights.

    A wrapper takes any optimizer of Keras or kopt and keeps weights of its own beside
    it. Options for gradients (clipping, accumulation, decay, groups) belong to the
    inner optimizer, and so does the learning rate. The wrapper acts when the inner
    optimizer takes a step, not on each batch that it accumulates.

    Many wrappers train at one point and are evaluated at another, an average for
    instance. `swap_to_eval` brings the model there and `swap_to_train` back, bit for
    bit. The optimizer's variable `point` records which of them the model holds, so a
    checkpoint can be taken at either. `fit` leaves the model at the evaluation point.
    `kopt.callbacks.EvalWeights` swaps during and between `fit`s; without it, validation
    sees the training point, and the next `fit` takes its first gradient at the
    evaluation point before it goes back.

    Weights that somebody else writes (`set_weights`, `load_weights`, an assignment, a
    callback that restores the best ones) are where training goes on: what the wrapper
    keeps for these variables starts again from them. So it does for a variable that is
    not trainable any more, which stays where it is. Whether a variable was written is
    seen by some of its numbers: by all of up to 256, and in each row and each column of
    up to 4096. A single number of a large kernel that was set by hand is not noticed,
    nor is what is written between loading an `.h5` file and the first step.

    A subclass names its slots and writes `before_step` and `after_step`.

    Args:
        inner_optimizer: The optimizer that takes the steps, or its name.
        name: Name of the optimizer.

    Raises:
        TypeError: If `inner_optimizer` is not an optimizer.
        ValueError: If the two do not go together.
    """

    #: Whether gradients are taken elsewhere than at the inner optimizer's weights.
    displaces: ClassVar[bool] = False

    #: Whether zeros of the inner optimizer's proximal step stay zeros.
    shrinks: ClassVar[bool] = True

    inner_optimizer: keras.optimizers.Optimizer

    def __init__(self, inner_optimizer: Any, name: str) -> None:
        super().__init__(0.0, name=name)
        inner = self.checked_inner(_optimizer(inner_optimizer))
        self.follow(inner)
        self.inner_optimizer = inner
        if isinstance(inner, Wrapper):
            inner.is_inside = True
        #: The wrapper's own numbers by name, for all variables together.
        self.numbers: dict[str, keras.Variable] = {}

    # What a wrapper defines.

    def number_slots(self) -> Mapping[str, Slot]:
        """Numbers and vectors that the wrapper keeps for all variables together."""
        return {}

    def before_step(self, batch: Batch) -> Any:
        """Put the weights in place that the inner optimizer is to move.

        What this returns, `after_step` gets as `before`.
        """
        return None

    def after_step(self, batch: Batch, before: Any, moved: Any) -> None:
        """Go on from where the inner optimizer has brought the weights.

        `moved` is a boolean tensor: whether it took a step, or only accumulated. Which
        variables took it says `batch.taken(moved)`; the others are to stay.
        """
        raise NotImplementedError

    def checked_inner(
        self, inner: keras.optimizers.Optimizer
    ) -> keras.optimizers.Optimizer:
        """The inner optimizer, if this wrapper can stand around it.

        Raises:
            ValueError: If not; the message says what to do.
        """
        own, kind = type(self).__name__, type(inner).__name__
        if isinstance(inner, keras.optimizers.LossScaleOptimizer):
            raise ValueError(
                f"{own} has to see gradients without loss scaling. Turn the order "
                f"around: keras.optimizers.LossScaleOptimizer(kopt.{own}(...)). Under "
                "the policy 'mixed_float16', `compile` adds loss scaling by itself."
            )
        if getattr(innermost(inner), "use_ema", False):
            raise ValueError(
                f"`use_ema=True` inside {own} averages weights that {own} moves again, "
                "and leaves two answers to what the model is evaluated at. Leave "
                f"`use_ema` out of {type(innermost(inner)).__name__}; "
                + self._average_instead()
            )
        if getattr(inner, "displaces", False):
            raise ValueError(
                f"{own}({kind}(...)) makes no sense: {kind} takes gradients at a point "
                "of its own, which no wrapper around it may move. "
                + (
                    f"Leave {own} out: {kind} evaluates at an average already."
                    if self.averages and getattr(inner, "averages", False)
                    else f"Turn the order around, kopt.{kind}(kopt.{own}(...)), or use "
                    "one of the two."
                )
            )
        return inner

    # What Keras calls.

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Create the wrapper's state and the inner optimizer's.

        Nothing happens without variables, or the second time.

        Raises:
            TypeError: If a variable holds complex numbers.
        """
        if self.built or not self.may_build(variables):
            return
        variables = checked_variables(self.to_build_on(variables))
        with keras.name_scope(self.name, caller=self):
            # In here, so that the names of nested wrappers of a kind differ.
            if not self.inner_optimizer.built:
                self.inner_optimizer.build(variables)
            self.point = self._add_number("point", Slot((), NEW), "int32")
            for name, slot in self.number_slots().items():
                self.numbers[name] = self._add_number(name, slot)
            for name, dtype in self.counters().items():
                vector = Slot((len(variables),), 0)
                self.numbers[name] = self._add_number(name, vector, dtype)
            # Past `__setattr__`, which would make the model's variables our own.
            self.__dict__["_tracks"] = make_tracks(self, variables)
            self.__dict__["kept_tracks"] = [
                track for track in self._tracks if track.slots
            ]
        self._places = Places(
            self._tracks, self.point, self.evaluates_at, self._restart
        )
        self._written = Fingerprints(variables, lambda: self.iterations)
        self.know(variables)
        self.built = True
        self.take_up_waiting()

    def apply(
        self,
        grads: Sequence[Any],
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> None:
        """Update variables by their gradients, as `Optimizer.apply` does."""
        gradients = list(grads)
        if not gradients:
            return
        variables = self._asked_variables(gradients, trainable_variables)
        inner = self.inner_optimizer
        given = tf.nest.flatten(gradients, expand_composites=True)
        # After the gradients: where data of unknown length end, a batch is missing,
        # and nothing may have moved when that turns out.
        with (
            keras.name_scope(self.name, caller=self),
            tf.control_dependencies([g for g in given if g is not None]),
        ):
            if not self.is_inside:
                self.settle(self._written.changed())
            pairs = [
                (self._tracks[self.position(variable)], gradient)
                for variable, gradient in zip(variables, gradients, strict=True)
                if gradient is not None and not self.is_overwritten(variable)
            ]
            batch = Batch(
                tracks=[track for track, _ in pairs],
                gradients=[gradient for _, gradient in pairs],
                rate=ops.cast(inner.learning_rate, "float64"),
                due=self._due([track for track, _ in pairs]),
            )
            count = ops.cast(inner.iterations, "int64")
            before = self.before_step(batch)
            inner.apply(gradients, variables)
            moved = ops.cast(inner.iterations, "int64") > count
            shrunk = _proximal.shrinking(batch.tracks)
            zeros = _proximal.zeros_of(shrunk)
            self.after_step(batch, before, moved)
            if shrunk:
                _proximal.keep_zeros(shrunk, zeros, self.evaluates_at)
            if not self.is_inside:
                self._written.note()

    @property
    def variables(self) -> list[keras.Variable]:
        """The wrapper's own variables and the inner optimizer's."""
        self.take_up_early()
        return self.own_variables() + self.inner_optimizer.variables

    @property
    def iterations(self) -> Any:
        """How many steps the inner optimizer has taken."""
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self) -> Any:
        """The inner optimizer's learning rate."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self.inner_optimizer.learning_rate = value

    @property
    def loss_scale_factor(self) -> Any:
        """The inner optimizer's factor on the loss."""
        inner = self.__dict__.get("inner_optimizer")
        return None if inner is None else inner.loss_scale_factor

    @loss_scale_factor.setter
    def loss_scale_factor(self, value: Any) -> None:
        if "inner_optimizer" in self.__dict__:
            self.inner_optimizer.loss_scale_factor = value

    def scale_loss(self, loss: Any) -> Any:
        return self.inner_optimizer.scale_loss(loss)

    def reset(self) -> None:
        """Bring the state back to before the first step, the inner optimizer's too.

        Training starts again from the weights that the model holds. Learning rate and
        hyperparameters stay as they are, for they are settings. A compiled train step
        goes on without tracing again. Before the optimizer is built nothing happens.
        """
        self.forget_waiting()
        if self.built:
            reset(self.inner_optimizer, [track.variable for track in self._tracks])
            self.put_back({id(scalar) for scalar in self.hyperparameters.values()})
            self._written.forget()

    def state(self, variable: keras.Variable) -> dict[str, keras.Variable]:
        """What the wrapper keeps for a variable of the model, by name."""
        for track in self._tracks if self.built else []:
            if track.variable is variable:
                return dict(track.slots)
        raise ValueError(f"The optimizer was not built on {variable!r}.")

    def set_weights(self, weights: Sequence[Any]) -> None:
        super().set_weights(weights)
        if self.built:
            self._written.forget()

    def save_own_variables(self, store: Any) -> None:
        self.check_nothing_waits()
        outermost = self.built and not self.is_inside
        written = self._written.numbers() if outermost else None
        _saving.save(store, self._named_variables(), written)

    def load_own_variables(self, store: Any) -> None:
        """Read the wrapper's whole state, or nothing.

        Raises:
            ValueError: If the saved state is that of other variables or options.
        """
        if len(list(store.keys())) == 0:
            return  # Saved before the first step, when there was no state.
        if not self.built:
            self.__dict__["waiting"] = _saving.copy(store)
            return
        self.take_up_moved(store.keys())
        written = _saving.load(
            store, self._named_variables(), self.name, self._upgraded
        )
        self._written.restore(written)

    def get_config(self) -> dict[str, Any]:
        config = {name: getattr(self, name) for name in own_arguments(type(self))}
        inner = keras.saving.serialize_keras_object(self.inner_optimizer)
        return {**config, "inner_optimizer": inner}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Wrapper:
        inner = keras.saving.deserialize_keras_object(
            config["inner_optimizer"], custom_objects
        )
        return cls(**{**config, "inner_optimizer": inner})

    def _upgraded(self, stored: dict[str, Any]) -> dict[str, Any]:
        """The state with a counter for each variable where there was one for all."""
        for name in self.counters():
            count = stored.get(name, np.array(UNKNOWN))
            if np.ndim(count) == 0:
                stored[name] = np.full(len(self._tracks), count)
        return self.with_unmoved(stored)

    def _due(self, tracks: list[Track]) -> Any:
        inner = innermost(self.inner_optimizer)
        if not isinstance(inner, Optimizer):
            return None  # All variables of Keras's accumulate together.
        return inner.due([track.index for track in tracks])

    def _average_instead(self) -> str:
        own = type(self).__name__
        if self.averages:
            return f"{own} evaluates at an average already."
        order = f"kopt.WeightAverage(kopt.{own}(...))"
        if self.displaces:
            order = f"kopt.{own}(kopt.WeightAverage(...))"
        return f"for an average write {order}."

    def add_scalar(self, name: str, value: float) -> keras.Variable:
        return self._add_number(name, Slot((), value))

    def _add_number(self, name: str, slot: Slot, dtype: str | None = None) -> Any:
        return self.add_variable(
            shape=slot.shape,
            # `Constant` would round the value to float32 on its way.
            initializer=lambda shape, dtype: ops.full(shape, slot.value, dtype),
            dtype=dtype or keras.backend.floatx(),
            aggregation="only_first_replica",
            name=name,
        )

    def _named_variables(self) -> dict[str, keras.Variable]:
        if not self.built:
            return {}
        named = {"point": self.point, **self.numbers, **self.hyperparameters}
        for track in self._tracks:
            named |= {f"{name}.{track.index}": s for name, s in track.slots.items()}
        return named


def innermost(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer inside all wrappers."""
    while isinstance(optimizer, Wrapper):
        optimizer = optimizer.inner_optimizer
    return optimizer


def own_arguments(cls: type) -> list[str]:
    """The arguments that a constructor names, but for `**options`."""
    parameters = inspect.signature(cls).parameters.values()
    return [p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]


def _optimizer(given: Any) -> keras.optimizers.Optimizer:
    if isinstance(given, (str, dict)):
        given = keras.optimizers.get(given)
    if not isinstance(given, keras.optimizers.Optimizer):
        raise TypeError(
            "`inner_optimizer` must be an optimizer of Keras or kopt, such as "
            f"kopt.Adam(0.001). Received: inner_optimizer={given!r}."
        )
    return given
