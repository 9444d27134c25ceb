"""What is settled about each variable when an optimizer is built."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import keras

from kopt._keras.layouts import layout
from kopt._variables import NARROW, is_floating
from kopt.optimizers._tracks import PUT_ASIDE
from kopt.optimizers.param_group import ParamGroup, matching

if TYPE_CHECKING:
    from kopt.optimizers._base import Optimizer

#: The slot that holds what Kahan rounding cut off a 16-bit variable.
COMPENSATION = "compensation"


class Slot(NamedTuple):
    """State whose shape, or dtype, is not that of its variable.

    Args:
        shape: Its shape; `()` for one number a variable.
        value: Its first value: a number, or a function from shape and dtype.
        dtype: Its dtype where `state_dtype` would be too coarse.
    """

    shape: tuple[int, ...]
    value: float | Callable[..., Any] = 0.0
    dtype: str | None = None


@dataclass
class Plan:
    """One variable with its state and its settings.

    Args:
        index: Its position among the optimizer's variables.
        variable: The variable of the model.
        dtype: Dtype of the arithmetic, `"float32"` or `"float64"`.
        traits: What the method's `traits` said of the variable.
        state: The method's slots by name.
        average: Moving average, under `use_ema`.
        put_aside: Where the trained weights wait while the model holds an average that
            could not be read back from it.
        accumulator: Sum of gradients, under gradient accumulation.
        group: The group that names the variable.
        factor: The group's factor on the learning rate.
        weight_decay: A number, a variable, or `None` where nothing decays.
    """

    index: int
    variable: keras.Variable
    dtype: str
    traits: Hashable = None
    state: dict[str, keras.Variable] = field(default_factory=dict)
    average: Any = None
    put_aside: Any = None
    accumulator: Any = None
    group: ParamGroup | None = None
    factor: keras.Variable | None = None
    weight_decay: Any = None

    @property
    def size(self) -> int:
        """How many weights the variable holds."""
        return math.prod(self.variable.shape)

    @property
    def exact(self) -> bool:
        """Whether weights and state are kept in the dtype of the arithmetic."""
        stored = [self.variable, *self.state.values()]
        return all(variable.dtype == self.dtype for variable in stored)

    @property
    def rounds_at_random(self) -> bool:
        """Whether writing results needs random numbers."""
        stored = [self.variable, *self.state.values()]
        return any(variable.dtype in NARROW for variable in stored)


def make_plans(optimizer: Optimizer, variables: Sequence[keras.Variable]) -> list[Plan]:
    """Create every variable's state and settle what holds for it.

    Raises:
        ValueError: If a group matches nothing, or two groups match one variable.
    """
    groups = _resolved_groups(optimizer, variables)
    factors = [_factor(optimizer, group) for group in optimizer.param_groups]
    excluded = _excluded(optimizer, variables)
    plans = []
    for index, variable in enumerate(variables):
        group = groups.get(index)
        decay = None if index in excluded else _decay(optimizer, group, variable)
        plan = Plan(index, variable, _arithmetic_dtype(variable), weight_decay=decay)
        plan.traits = optimizer.traits(variable)
        if group is not None:
            place = optimizer.param_groups.index(group)
            plan.group, plan.factor = group, factors[place]
        _add_state(optimizer, plan)
        plans.append(plan)
    return plans


def _arithmetic_dtype(variable: keras.Variable) -> str:
    return "float64" if variable.dtype == "float64" else "float32"


def _add_state(optimizer: Optimizer, plan: Plan) -> None:
    """Create the slots beside the variable, on its device."""
    variable = plan.variable

    def add(name: str, dtype: str, first: float | Slot = 0.0) -> keras.Variable:
        slot = first if isinstance(first, Slot) else Slot(variable.shape, first)
        value = slot.value
        return optimizer.add_variable(
            shape=slot.shape,
            initializer=value if callable(value) else _filled(value),
            dtype=slot.dtype or dtype,
            name=f"{variable.path.replace('/', '_')}_{name}",
            layout=layout(variable) if slot is not first else None,
        )

    if not is_floating(variable):
        return
    with optimizer.colocated(variable):
        if optimizer.gradient_accumulation_steps:
            plan.accumulator = add("gradient_accumulator", plan.dtype)
        if optimizer.is_overwritten(variable):
            return
        if optimizer.use_ema:
            plan.average = add("average", plan.dtype)
            if variable.dtype in NARROW or variable.constraint is not None:
                plan.put_aside = add(PUT_ASIDE, variable.dtype)
        for name, value in optimizer.slots(variable).items():
            plan.state[name] = add(name, optimizer.state_dtype or plan.dtype, value)
        if optimizer.bf16_rounding == "kahan" and variable.dtype in NARROW:
            plan.state[COMPENSATION] = add(COMPENSATION, variable.dtype)


def _filled(value: float) -> Callable[..., Any]:
    # `Constant` would round the value to float32 on its way.
    return lambda shape, dtype: keras.ops.full(shape, value, dtype)


def _resolved_groups(
    optimizer: Optimizer, variables: Sequence[keras.Variable]
) -> dict[int, ParamGroup]:
    owner: dict[int, ParamGroup] = {}
    for group in optimizer.param_groups:
        for index in group.resolve(variables):
            if index in owner:
                raise ValueError(
                    f"Two of `param_groups` match {variables[index].path!r}: "
                    f"{owner[index].match!r} and {group.match!r}. A variable can be in "
                    "one group; make the matches exclude each other."
                )
            owner[index] = group
    return owner


def _factor(optimizer: Optimizer, group: ParamGroup) -> keras.Variable:
    place = optimizer.param_groups.index(group)
    name = f"learning_rate_multiplier_{place}" if place else "learning_rate_multiplier"
    factor = optimizer.add_scalar(name, group.factor)
    group.bind(factor)
    return factor


def _excluded(optimizer: Optimizer, variables: Sequence[keras.Variable]) -> set[int]:
    """Positions without weight decay; they replace the rules, to be saved."""
    found: set[int] = set()
    for match in optimizer.excluded_from_weight_decay:
        found |= {match} if isinstance(match, int) else set(matching(match, variables))
    optimizer.excluded_from_weight_decay = sorted(found)
    return found


def _decay(
    optimizer: Optimizer, group: ParamGroup | None, variable: keras.Variable
) -> Any:
    if group is not None and group.weight_decay is not None:
        return group.weight_decay or None
    return optimizer.hyperparameters.get(optimizer.decay_name(variable))
