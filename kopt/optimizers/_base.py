"""The base of every kopt optimizer."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kopt import _checks
from kopt._keras.optimizer_adapter import KerasDoor
from kopt._variables import checked_variables
from kopt.optimizers import _saving
from kopt.optimizers._averages import Averaging
from kopt.optimizers._engine import Engine
from kopt.optimizers._formula import Formula
from kopt.optimizers._movable import Movable
from kopt.optimizers._options import CommonOptions as CommonOptions
from kopt.optimizers._options import Options as Options
from kopt.optimizers._options import checked, checked_group
from kopt.optimizers._places import NEW, TRAINING
from kopt.optimizers._plan import Plan, make_plans
from kopt.optimizers._resetting import Resettable
from kopt.optimizers._tracks import PUT_ASIDE
from kopt.optimizers.param_group import ParamGroup


class Optimizer(Movable, Formula, Averaging, Resettable, KerasDoor):
    """What all kopt optimizers share: a method adds its formula and its state.

    A subclass gives `slots`, the state of a variable, and `update`, a pure function
    from a gradient to a direction and the next state. Everything else happens here, in
    this order: sum over replicas, sum duplicate rows, cast up, centralize, clip, the
    method's scalars (`once_per_step`), formula, cautious mask, learning rate, weight
    decay, rounding, assignment, constraint, moving average.

    Args:
        learning_rate: A number from 0, a `LearningRateSchedule`, or a function without
            arguments. Schedules count updates (Keras counts batches).
        weight_decay: Share of the weights taken off at each update, as
            `weight_decay_mode` says, or `None`. Defaults to `None`.
        clipnorm: Longest norm of each variable's gradient. Clipping comes after the
            sum over replicas.
        clipvalue: Largest absolute value in a gradient.
        global_clipnorm: Longest joint norm of all gradients.
        use_ema: Keep a moving average of the weights, and write it into the model when
            `fit` ends. It moves once an update, after constraints, for the variables
            that have a gradient. Where others write the weights, it starts again.
        ema_momentum: Momentum of that average. A callback can move it. Defaults to
            `0.99`.
        ema_overwrite_frequency: Write the average into the model every so many
            updates. Defaults to `None`, only at the end.
        loss_scale_factor: Factor on the loss, taken out of the gradients again.
        gradient_accumulation_steps: Update a variable by the mean of this many of its
            gradients. Each variable counts its own; a batch without a gradient for it
            leaves its sum alone.
        name: Name of the optimizer.
        weight_decay_mode: `"decoupled"` (Loshchilov & Hutter, arXiv:1711.05101) takes
            `learning_rate * weight_decay` of each weight. `"independent"` takes
            `weight_decay`, following only the shape of the schedule. `"l2"` adds
            `weight_decay * weights` to the gradient. `"corrected"` (Defazio,
            arXiv:2506.02285) lowers decoupled decay with the schedule once more.
            `"cautious"` (arXiv:2510.12402) decays only weights that the update moves
            towards zero. Defaults to `"decoupled"`.
        excluded_from_weight_decay: Regular expressions searched for in variable
            paths, or positions of variables, that do not decay.
        reference_rate: The learning rate that `"independent"` and `"corrected"` decay
            compare with. Defaults to the first or highest rate of `learning_rate`.
        cautious: Drop the parts of a direction that go against the present gradient
            (arXiv:2411.16085). Defaults to `False`.
        gradient_centralization: Take each unit's mean off its gradient
            (arXiv:2004.01461). A unit is one output with all that feeds it, as the
            layer of a kernel has them: a filter, a channel of a depthwise convolution,
            a dimension of a head, a row of an embedding. Kernels of other layers have
            their outputs on the last axis, unless the layer's class says where in
            `kernel_axes` (see `docs/moving.md`). Defaults to `False`.
        agc: Largest ratio of a unit's gradient norm to its weight norm
            (arXiv:2102.06171), commonly `0.01`. A bias or a scale is one unit.
            Defaults to `None`.
        param_groups: `ParamGroup`s, settings for some variables.
        sparse: How the gradient of an embedding is used. `"exact"` gives the result of
            the dense gradient; `"lazy"` updates and decays only rows that the batch
            touched, and takes time in proportion to them. Defaults to `"exact"`.
        state_dtype: Dtype in which the state is kept. Defaults to `None`: float32 for
            variables of 16 bits, otherwise the variable's own.
        bf16_rounding: How a variable of 16 bits is written (arXiv:2010.06192):
            `"stochastic"` rounds up or down at random, right on average and the same
            way at the same update; `"kahan"` keeps what is cut off in a second
            variable; `None` rounds to the nearest, which loses every step below 1/256
            of a bfloat16 weight (1/2048 of a float16 one). Defaults to `"stochastic"`.

    Raises:
        TypeError: For an argument of the wrong type, or a number set as the learning
            rate while a schedule drives it.
        ValueError: For a number outside its range or an unknown option.
    """

    def __init__(
        self,
        learning_rate: Any,
        *,
        weight_decay_mode: str = "decoupled",
        excluded_from_weight_decay: Sequence[Any] | None = None,
        reference_rate: float | None = None,
        cautious: bool = False,
        gradient_centralization: bool = False,
        agc: float | None = None,
        param_groups: Sequence[ParamGroup] | None = None,
        sparse: str = "exact",
        state_dtype: str | None = None,
        bf16_rounding: str | None = "stochastic",
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **checked(options))
        if agc is not None:
            _checks.number("agc", agc, low=0, low_open=True)
        if state_dtype is not None:
            state_dtype = keras.backend.standardize_dtype(state_dtype)
            _checks.one_of("state_dtype", state_dtype, _STATE_DTYPES)
        self.weight_decay_mode = _checks.one_of(
            "weight_decay_mode", weight_decay_mode, _DECAY_MODES
        )
        self.excluded_from_weight_decay = list(excluded_from_weight_decay or [])
        self.reference_rate = reference_rate or self.initial_rate()
        if self.reference_rate is None and weight_decay_mode in _NEED_REFERENCE:
            raise ValueError(
                f"`weight_decay_mode={weight_decay_mode!r}` needs to know the learning "
                "rate that the schedule starts from. Pass it as `reference_rate`."
            )
        self.cautious = bool(cautious)
        self.gradient_centralization = bool(gradient_centralization)
        self.agc = agc
        self.param_groups = [checked_group(group) for group in param_groups or []]
        self.sparse = _checks.one_of("sparse", sparse, ("exact", "lazy"))
        self.state_dtype = state_dtype
        self.bf16_rounding = _checks.one_of(
            "bf16_rounding", bf16_rounding, (None, "stochastic", "kahan")
        )
        #: Scalars that the whole method keeps from update to update.
        self.shared_state: dict[str, keras.Variable] = {}
        self._engine: Engine | None = None

    # What Keras calls.

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Create the state for `variables`; a second call does nothing.

        Nor does a call without variables.

        Raises:
            TypeError: If a variable holds complex numbers.
            ValueError: If a group matches nothing, or two match one variable.
        """
        if self.built or not self.may_build(variables):
            return
        variables = checked_variables(self.to_build_on(variables))
        with keras.name_scope(self.name, caller=self):
            self.make_movable("weight_decay", *self.movable)
            for name, value in self.shared_slots().items():
                self.shared_state[name] = self.add_scalar(name, value)
            plans = make_plans(self, variables)
        self.know(variables)
        self.keras_lists(
            [plan.average for plan in plans], [plan.accumulator for plan in plans]
        )
        with keras.name_scope(self.name, caller=self):
            self._engine = Engine(self, plans)
        self.built = True
        self.take_up_waiting()

    def take_step(self, gradients: list[Any], positions: list[int]) -> Any:
        assert self._engine is not None  # `apply` builds first.
        return self._engine.take_step(gradients, positions)

    def reset(self) -> None:
        """Bring the state back to before the first step.

        Slots, shared state, averages, accumulators and counters get their first
        values. The learning rate, other hyperparameters and the factors of
        `param_groups` stay as they are, for they are settings. So do the weights:
        training starts again from those that the model holds. A compiled train step
        goes on without tracing again. Before the optimizer is built nothing happens.

        Example:

        >>> weight = keras.Variable([1.0])
        >>> optimizer = kopt.SGD(0.1, momentum=0.9)
        >>> for _ in range(2):  # two folds
        ...     weight.assign([1.0])
        ...     optimizer.reset()
        ...     for _ in range(2):
        ...         optimizer.apply([keras.ops.ones(1)], [weight])
        ...     print(weight.numpy().round(4))
        [0.71]
        [0.71]
        """
        self.forget_waiting()
        settings = [self.rate_variable(), *self.hyperparameters.values()]
        plans = self._engine.plans if self._engine else []
        settings += [plan.factor for plan in plans]
        self.put_back({id(variable) for variable in settings})
        self.batches.assign(0)
        if self._averages:
            self._averages.forget()

    def exclude_from_weight_decay(
        self,
        var_list: Sequence[keras.Variable] | None = None,
        var_names: Sequence[str] | None = None,
    ) -> None:
        """Leave variables out of weight decay; saved with the optimizer.

        Args:
            var_list: Variables.
            var_names: Regular expressions, searched for in a variable's path
                (`"sequential/dense_1/bias"`).

        Raises:
            ValueError: If the optimizer is built already.
        """
        if self.built:
            raise ValueError(
                "`exclude_from_weight_decay` must be called before the optimizer is "
                "built. Call it right after the optimizer's construction."
            )
        self.excluded_from_weight_decay += list(var_names or [])
        if var_list:
            self.excluded_from_weight_decay.append(list(var_list))

    def state(self, variable: keras.Variable) -> dict[str, keras.Variable]:
        """The state that belongs to a variable of the model, by slot."""
        for plan in self._engine.plans if self._engine else []:
            if plan.variable is variable:
                return dict(plan.state)
        raise ValueError(f"The optimizer was not built on {variable!r}.")

    def plan(self, position: int) -> Plan:
        """What was settled about a variable when the optimizer was built."""
        assert self._engine is not None  # Only a built optimizer has variables.
        return self._engine.plans[position]

    def due(self, positions: Sequence[int]) -> Any:
        """Which variables the gradients of some will update, under accumulation.

        Returns:
            A boolean vector by the position of all variables, or `None` without
            accumulation: each variable that has a gradient takes a step then.
        """
        assert self._engine is not None  # Only a built optimizer has variables.
        counts = self._engine.counts
        return None if counts is None else counts.due(positions)

    def is_moving(self, variables: Sequence[keras.Variable]) -> Any:
        """Whether any of some variables takes a step in the update that is going on.

        For constraints, which are applied in updates, to variables that wait as well.
        """
        moving = self._engine.moving if self._engine else None
        if moving is None:
            return True
        flags = [moving[id(v)] for v in variables if id(v) in moving]
        return tf.reduce_any(flags) if flags else False

    def state_memory(self) -> int:
        """How many bytes the state takes: what is kept beside the weights.

        Slots, moving averages and gradient accumulators count, and the counters.

        Raises:
            ValueError: If the optimizer is not built.
        """
        return _saving.memory(self)

    def on_demand(self) -> tuple[str, ...]:
        return (*self.may_move, "ema_momentum") if self.use_ema else self.may_move

    def add_scalar(self, name: str, value: float) -> keras.Variable:
        """Create a scalar variable of the optimizer."""
        return self.add_variable(
            shape=(),
            # `Constant` would round the value to float32 on its way.
            initializer=lambda shape, dtype: keras.ops.convert_to_tensor(value, dtype),
            dtype=keras.backend.floatx(),
            aggregation="only_first_replica",
            name=name,
        )

    def save_own_variables(self, store: Any) -> None:
        self.check_nothing_waits()
        written = self._averages.written() if self._averages else None
        _saving.save(store, self._named_variables(), written)

    def load_own_variables(self, store: Any) -> None:
        """Read the whole state, or nothing.

        The state for variables that the optimizer is not built on yet waits for them.

        Raises:
            ValueError: If the saved state is that of other variables or options.
        """
        stored = set(store.keys())
        if self.built:
            self.take_up_moved(stored)
        named = self._named_variables()
        if stored <= {"iteration", "learning_rate"}:
            # Saved before the first step, when there was no state.
            named = {name: named[name] for name in stored & set(named)}
            _saving.load(store, named, self.name)
            return
        if not self.built:
            self.__dict__["waiting"] = _saving.copy(store)
            return
        written = _saving.load(store, named, self.name, self._upgraded)
        if self._averages:
            self._averages.restore(written)

    def get_config(self) -> dict[str, Any]:
        arguments = [*_arguments(Optimizer), *_arguments(type(self))]
        config = {
            **super().get_config(),
            **{name: getattr(self, name) for name in arguments},
            **{name: getattr(self, name) for name in self.hyperparameters},
        }
        groups = [keras.saving.serialize_keras_object(g) for g in self.param_groups]
        config["param_groups"] = groups or None
        config["excluded_from_weight_decay"] = list(self.excluded_from_weight_decay)
        return config

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Optimizer:
        groups = [
            keras.saving.deserialize_keras_object(group, custom_objects)
            for group in config.get("param_groups") or []
        ]
        return super().from_config(
            {**config, "param_groups": groups or None}, custom_objects
        )

    def _named_variables(self) -> dict[str, keras.Variable]:
        counters = {"iteration": self.batches, "learning_rate": self.rate_variable()}
        counters |= {**self.hyperparameters, **self.shared_state}
        plans = self._engine.plans if self._engine else []
        for plan in plans:
            if plan.group is not None:
                place = self.param_groups.index(plan.group)
                counters[f"learning_rate_multiplier.{place}"] = plan.factor
        if self._engine and self._engine.counts:
            counters["accumulated"] = self._engine.counts.variable
        if self._averages:
            counters["point"] = self._averages.point
        return _saving.named_variables(counters, plans)

    def _upgraded(self, stored: dict[str, Any]) -> dict[str, Any]:
        """The state with what earlier versions did not store.

        All variables had accumulated as many gradients, and the model held the weights
        that it is trained at.
        """
        batches = int(stored.get("iteration", 0))
        steps = self.gradient_accumulation_steps or 1
        first: dict[str, Any] = {}
        if self._engine and self._engine.counts:
            first["accumulated"] = np.full(len(self._engine.plans), batches % steps)
        if self._averages:
            first["point"] = np.array(TRAINING if batches // steps else NEW)
            for plan in self._engine.plans if self._engine else []:
                if plan.put_aside is not None:
                    aside = f"{PUT_ASIDE}.{plan.index}"
                    first[aside] = np.zeros(plan.put_aside.shape)
        return self.with_unmoved({**first, **stored})


_DECAY_MODES = ("decoupled", "independent", "l2", "corrected", "cautious")
_NEED_REFERENCE = ("independent", "corrected")
_STATE_DTYPES = ("bfloat16", "float32", "float64")


def _arguments(cls: type) -> list[str]:
    """The constructor's own arguments, those that it names itself."""
    parameters = inspect.signature(cls).parameters.values()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [
        parameter.name
        for parameter in parameters
        if parameter.kind in named and parameter.name != "learning_rate"
    ]
