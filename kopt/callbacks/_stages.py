"""Parts of a model that are held still until their turn comes."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import keras

from kopt._keras.compiled import forget_compiled_functions
from kopt._keras.layer_tree import nested_layers, with_nested_layers
from kopt._keras.optimizer_adapter import variables_of
from kopt.callbacks import _targets
from kopt.optimizers import Optimizer, ParamGroup

Given: TypeAlias = ParamGroup | keras.Layer | str | Sequence[keras.Layer | str]


class Stage(Protocol):
    """Something that can be frozen and thawed."""

    def freeze(self) -> None: ...
    def thaw(self) -> None: ...


class GroupStage:
    """A group of an optimizer's variables; nothing is traced again.

    Raises:
        ValueError: If the model's optimizer has no such group.
    """

    def __init__(self, model: keras.Model, group: ParamGroup) -> None:
        level: Any = _targets.optimizer_of(model)
        groups: list[ParamGroup] = []
        while level is not None:
            groups += getattr(level, "param_groups", [])
            level = getattr(level, "inner_optimizer", None)
        if not any(one is group for one in groups):
            raise ValueError(
                f"`stages` names a ParamGroup (match={group.match!r}) that the model's "
                "optimizer has not. Compile with it, kopt.Adam(param_groups=[group]); "
                "of a loaded model take those in model.optimizer.param_groups."
            )
        self._group = group

    def freeze(self) -> None:
        self._group.frozen = True

    def thaw(self) -> None:
        self._group.frozen = False


class LayerStage:
    """Layers of a model, whose training step is traced again.

    Raises:
        ValueError: If the optimizer cannot take steps without these layers.
    """

    def __init__(self, model: keras.Model, layers: Sequence[keras.Layer]) -> None:
        self._model = model
        self._layers = list(layers)
        # `trainable` reaches into a layer: what the user froze inside stays frozen.
        self._inside = [
            (one, one.trainable)
            for layer in layers
            if layer.trainable
            for one in nested_layers(layer)
        ]
        optimizer = _targets.optimizer_of(model)
        weights = any(layer.weights for layer in layers)
        if weights and optimizer.use_ema and not isinstance(optimizer, Optimizer):
            kind = type(optimizer).__name__
            raise ValueError(
                f"{kind} with use_ema=True cannot take a step while layers are frozen. "
                f"Use kopt.WeightAverage(keras.optimizers.{kind}(...)), or name "
                "ParamGroups of a kopt optimizer as `stages`."
            )

    def freeze(self) -> None:
        for layer in self._layers:
            layer.trainable = False
        forget_compiled_functions(self._model)

    def thaw(self) -> None:
        self.make_trainable()
        forget_compiled_functions(self._model)

    def make_trainable(self) -> None:
        for layer in self._layers:
            layer.trainable = True
        for layer, trainable in self._inside:
            layer.trainable = trainable

    def check_known(self) -> None:
        """Refuse an optimizer that was built without these layers' weights."""
        optimizer = _targets.optimizer_of(self._model)
        known = {id(variable) for variable in variables_of(optimizer)}
        for layer in self._layers:
            for variable in layer.trainable_variables:
                if id(variable) not in known:
                    raise ValueError(
                        f"The optimizer was built while {layer.name!r} was frozen, so "
                        f"it has no state for {variable.path!r}. Set its `trainable` to"
                        " True and compile again: GradualUnfreeze freezes it itself."
                    )


def stage_of(model: keras.Model, given: Given) -> GroupStage | LayerStage:
    """The stage that a user means.

    Raises:
        ValueError: If a name matches no layer of the model.
    """
    if isinstance(given, ParamGroup):
        return GroupStage(model, given)
    named = [given] if isinstance(given, (str, keras.Layer)) else given
    layers: list[keras.Layer] = []
    for one in named:
        layers += [one] if isinstance(one, keras.Layer) else _named(model, one)
    inside = {id(layer) for layer in with_nested_layers(model)}
    for layer in layers:
        if id(layer) not in inside:
            raise ValueError(
                f"`stages` names the layer {layer.name!r}, which is not in the model. "
                "Name layers of the model that is trained, or give their names."
            )
    return LayerStage(model, layers)


def _named(model: keras.Model, pattern: str) -> list[keras.Layer]:
    layers = nested_layers(model)
    found = [layer for layer in layers if fnmatch.fnmatchcase(layer.name, pattern)]
    if found:
        return found
    listed = ", ".join(repr(layer.name) for layer in layers)
    raise ValueError(
        f"`stages` names {pattern!r}, which no layer of the model matches. It has: "
        f"{listed}. A name may have wildcards: 'block1_*'."
    )
