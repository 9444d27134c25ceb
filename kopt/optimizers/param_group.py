"""Settings of their own for some of a model's variables."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras

from kopt import _checks
from kopt._registry import register

Match: TypeAlias = str | Sequence[Any] | Callable[[Any], bool] | keras.layers.Layer


@register("optimizers")
class ParamGroup:
    """Some of a model's variables, with a learning rate and weight decay of their own.

    Pass groups to any kopt optimizer as `param_groups=[...]`. Variables that no group
    names keep the optimizer's own settings. What a group matched is stored with the
    optimizer, so a loaded model has the same groups even where its layers were
    renamed. The learning rate factor is a variable: set `learning_rate_multiplier` or
    `frozen` at any time, and training goes on with its moments and without tracing
    again.

    Args:
        match: Which variables: a regular expression that is searched for in the
            variable's path (`"sequential/dense_1/kernel"`), a layer, a list of layers
            and variables, or a function from a variable to true or false.
        learning_rate_multiplier: Factor on the learning rate (and so on decoupled
            weight decay). Defaults to `1.0`.
        weight_decay: Weight decay of the group, in place of the optimizer's. Defaults
            to `None`, the optimizer's.
        frozen: Start with the group's variables held where they are. Defaults to
            `False`.
        variables: For `from_config`: the variables that were matched, by position, with
            their shapes.
        of_variables: For `from_config`: how many variables the optimizer had. Where it
            has another number now, as layers were frozen, `match` is asked again.

    Raises:
        ValueError: For a negative number, or, when the optimizer is built, for a match
            that finds no variable or one that another group has.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> group = kopt.ParamGroup("bias", weight_decay=0.0)
    >>> model.compile(kopt.AdamW(weight_decay=0.1, param_groups=[group]), "mse")
    >>> model.optimizer.build(model.trainable_variables)
    >>> [model.trainable_variables[i].name for i in group.variables]
    ['bias']
    """

    def __init__(
        self,
        match: Match | None,
        learning_rate_multiplier: float = 1.0,
        weight_decay: float | None = None,
        frozen: bool = False,
        variables: dict[str, list[int]] | None = None,
        of_variables: int | None = None,
    ) -> None:
        if weight_decay is not None:
            weight_decay = _checks.number("weight_decay", weight_decay, low=0)
        self.match = match
        self.weight_decay = weight_decay
        self._multiplier = _multiplier(learning_rate_multiplier)
        self._frozen = bool(frozen)
        # What the group was saved with: its positions, among so many.
        self._stored, self._of_variables = variables, of_variables
        self._variable: keras.Variable | None = None
        self.variables: list[int] = []

    @property
    def learning_rate_multiplier(self) -> float:
        """Factor on the learning rate of the group while it is not frozen."""
        return self._multiplier

    @learning_rate_multiplier.setter
    def learning_rate_multiplier(self, value: float) -> None:
        self._multiplier = _multiplier(value)
        self._write()

    @property
    def frozen(self) -> bool:
        """Whether the group's variables are held where they are."""
        return self._frozen

    @frozen.setter
    def frozen(self, value: bool) -> None:
        self._frozen = bool(value)
        self._write()

    def resolve(self, variables: Sequence[keras.Variable]) -> list[int]:
        """Find the group's variables and return their positions.

        Raises:
            ValueError: If nothing matches, or if the variables are not those that the
                group was saved with.
        """
        if self._stored is None:
            self.variables = matching(self.match, variables)
        else:
            self.variables = self._stored_positions(variables)
        if not self.variables:
            raise ValueError(
                f"`match` must find at least one variable. Received: match="
                f"{self.match!r}. The variables are: "
                f"{', '.join(variable.path for variable in variables)}."
            )
        self._shapes = {
            str(index): list(variables[index].shape) for index in self.variables
        }
        self._count = len(variables)
        return self.variables

    @property
    def factor(self) -> float:
        """What the learning rate is multiplied by at present."""
        return 0.0 if self._frozen else self._multiplier

    def bind(self, variable: keras.Variable) -> None:
        """Tie the group to the optimizer's variable that holds its factor."""
        self._variable = variable

    def get_config(self) -> dict[str, Any]:
        if not self.variables and not isinstance(self.match, str):
            raise ValueError(
                "A `ParamGroup` whose `match` is not a string can be saved only after "
                "its optimizer was built. Call `optimizer.build(variables)` first, or "
                f"match by a regular expression. Received: match={self.match!r}."
            )
        return {
            "match": self.match if isinstance(self.match, str) else None,
            "learning_rate_multiplier": self._multiplier,
            "weight_decay": self.weight_decay,
            "frozen": self._frozen,
            "variables": self._shapes if self.variables else None,
            "of_variables": self._count if self.variables else None,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ParamGroup:
        return cls(**config)

    def _write(self) -> None:
        if self._variable is not None:
            self._variable.assign(self.factor)

    def _stored_positions(self, variables: Sequence[keras.Variable]) -> list[int]:
        assert self._stored is not None
        count = self._of_variables or len(variables)
        if count != len(variables) and isinstance(self.match, str):
            # Layers were frozen or thawed in between: positions are others now.
            return matching(self.match, variables)
        if count != len(variables):
            raise ValueError(
                f"A saved `ParamGroup` names some of {count} variables, and there are "
                f"{len(variables)} now. Freeze the layers that were frozen when it was "
                "saved, and those alone, or match by a regular expression."
            )
        for index, shape in self._stored.items():
            present = int(index) < len(variables)
            found = list(variables[int(index)].shape) if present else "no variable"
            if found != list(shape):
                raise ValueError(
                    f"A saved `ParamGroup` names variable {index} with shape {shape}, "
                    f"but this model has {found} there. Load it with the model it was "
                    "saved with, or give the optimizer new groups."
                )
        return [int(index) for index in self._stored]


def matching(match: Any, variables: Sequence[keras.Variable]) -> list[int]:
    """Positions of the variables that a `match` of any accepted kind finds."""
    if isinstance(match, str):
        pattern = re.compile(match)
        return [i for i, v in enumerate(variables) if pattern.search(v.path)]
    if isinstance(match, keras.layers.Layer):
        match = [match]
    if isinstance(match, (list, tuple, set)):
        wanted = set()
        for item in match:
            members = item.variables if isinstance(item, keras.layers.Layer) else [item]
            wanted |= {id(member) for member in members}
        return [i for i, v in enumerate(variables) if id(v) in wanted]
    if callable(match):
        return [i for i, v in enumerate(variables) if match(v)]
    raise TypeError(
        "`match` must be a regular expression, a layer, a list of layers and "
        f"variables, or a function of a variable. Received: match={match!r}."
    )


def _multiplier(value: float) -> float:
    return _checks.number("learning_rate_multiplier", value, low=0)
