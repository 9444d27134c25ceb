"""Find the variables behind the name of a hyper-parameter."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from kopt import _checks, optimizers
from kopt._keras.compiled import forget_training_step
from kopt._keras.layer_tree import with_nested_layers
from kopt.optimizers import Optimizer, Wrapper

Target = str | Callable[[keras.Model], Any]


def find(model: keras.Model, target: Target) -> list[keras.Variable]:
    """The scalar variables that `target` stands for in a compiled model.

    Args:
        model: A compiled model.
        target: The name of an optimizer's hyper-parameter (`"learning_rate"`); a
            pattern with a slash for the paths of scalars in layers (`"*/rate"`) and in
            the regularizers of weights (`"*/kernel/regularizer/l1"`); or a function
            that takes the model and returns a `keras.Variable` or several.

    Raises:
        ValueError: If nothing is found, or only what a compiled train step has copied
            into itself, where moving it would have no effect.
    """
    if callable(target):
        return _from_function(model, target)
    if "/" in target:
        return _in_model(model, target)
    return [_in_optimizer(model, target)]


def optimizer_of(model: keras.Model) -> keras.optimizers.Optimizer:
    """The optimizer that takes the steps, without loss scaling around it."""
    if model is None:
        raise ValueError(
            "The list of callbacks was made without a model. Give it the one that is "
            "trained: `keras.callbacks.CallbackList(callbacks, model=model)`."
        )
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        raise ValueError(
            "The model has no optimizer. Compile it first: "
            "`model.compile(optimizer=..., loss=...)`."
        )
    while isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    return optimizer


def batches_seen(optimizer: keras.optimizers.Optimizer) -> int:
    """How many batches an optimizer has been given, also between two updates.

    `optimizer.iterations` counts updates, which are fewer with gradient accumulation.
    """
    counter = next(v for v in optimizer.variables if v.name == "iteration")
    return int(keras.ops.convert_to_numpy(counter))


def build(model: keras.Model) -> None:
    """Create the optimizer's variables, which Keras else leaves to the first batch.

    Raises:
        ValueError: If the model itself has none yet.
    """
    _checks.keras_model("model", model)
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def check_decay(model: keras.Model, target: Target, values: Any, curve: str) -> None:
    """Refuse a curve that leaves the range of a decay, before anything is trained.

    Args:
        model: A compiled model.
        target: What the curve drives. All is well if that is no decay.
        values: What the curve will set, or enough of it.
        curve: The curve as an error names it.

    Raises:
        ValueError: If it goes below 0, or to 1 and that is too high.
    """
    if not isinstance(target, str) or owner_of(optimizer_of(model), target) is None:
        return
    # At 1 an average stays where it is; a momentum would be divided by zero.
    rule = "from 0 to 1" if target == "ema_momentum" else "from 0 to less than 1"
    low, high = float(np.min(values)), float(np.max(values))
    if low < 0.0 or high > 1.0 or (high == 1.0 and target != "ema_momentum"):
        raise ValueError(
            f"{target!r} must be {rule} all along. Received: {curve}, which goes from "
            f"{low:g} to {high:g}. Give a schedule within that range."
        )


def owner_of(
    optimizer: keras.optimizers.Optimizer, name: str
) -> Optimizer | Wrapper | None:
    """The optimizer that makes a variable of an argument, itself or one inside it."""
    found = (one for one in _of_kopt(optimizer) if name in one.on_demand())
    return next(found, None)


def _of_kopt(optimizer: keras.optimizers.Optimizer) -> Iterator[Optimizer | Wrapper]:
    level: Any = optimizer
    while level is not None:
        if isinstance(level, Optimizer | Wrapper):
            yield level
        level = getattr(level, "inner_optimizer", None)


def _in_optimizer(model: keras.Model, name: str) -> keras.Variable:
    optimizer = optimizer_of(model)
    kind = type(optimizer).__name__
    value = getattr(optimizer, name, None)
    if isinstance(value, keras.Variable):
        return value
    build(model)
    owner = owner_of(optimizer, name)
    if owner is not None:
        is_new = name not in owner.hyperparameters
        variable = owner.let_move(name)
        if is_new:
            # The model at hand is known, if the optimizer does not find it.
            forget_training_step(model)
        return variable
    movable = {v.name: v for v in optimizer.variables if _is_scalar(v)}
    if name in movable:
        return movable[name]
    movable |= dict.fromkeys(n for o in _of_kopt(optimizer) for n in o.on_demand())
    if name == "learning_rate" and value is not None:
        raise ValueError(
            f"The learning rate of {kind} is driven by a schedule of its own, so "
            "nothing else can move it. Compile with a float, "
            f"{kind}(learning_rate=0.001), and give the schedule to a callback: "
            "`kopt.callbacks.FitSchedule(schedule)`, which takes those of Keras too."
        )
    if value is None:
        raise ValueError(
            f"{kind} has no hyper-parameter {name!r}, or it is not set. "
            f"It has: {_listed(movable)}. For a variable of a layer write a pattern "
            "with a slash: '*/rate'."
        )
    raise ValueError(
        f"{kind}.{name} is the Python number {value!r}, which the compiled train step "
        "has copied into itself: a new value would have no effect. Only variables can "
        f"be moved during training; {kind} has: {_listed(movable)}."
        f"{_instead(optimizer, name)}"
    )


def _instead(optimizer: keras.optimizers.Optimizer, name: str) -> str:
    """Which optimizer of kopt moves what the one of Keras that it replaces does not."""
    kind = type(optimizer).__name__
    replaced = not isinstance(optimizer, Optimizer | Wrapper) and hasattr(
        optimizers, kind
    )
    if not replaced or name not in ("beta_1", "ema_momentum", "momentum"):
        return ""
    return f" kopt.{kind} keeps it in one."


def _in_model(model: keras.Model, pattern: str) -> list[keras.Variable]:
    _checks.keras_model("model", model)
    scalars = list(_scalars(model))
    suffix = f"*/{pattern.removeprefix('*/')}"
    found = {
        id(variable): variable
        for path, variable in scalars
        if fnmatch.fnmatchcase(f"/{path}", suffix)
    }
    if not found:
        raise ValueError(
            f"No scalar variable of the model matches {pattern!r}. "
            f"It has: {_listed(path for path, _ in scalars)}. Layers and regularizers "
            "of Keras keep their rates and factors as Python numbers, which cannot be "
            "moved during training; those of kopt.layers and kopt.regularizers can."
        )
    return list(found.values())


def _scalars(model: keras.Model) -> Iterator[tuple[str, keras.Variable]]:
    for layer in with_nested_layers(model):
        path = layer.path or layer.name
        yield from _attributes(path, layer)
        yield from _attributes(
            f"{path}/activity_regularizer", layer.activity_regularizer
        )
    for weight in model.weights:
        yield from _attributes(f"{weight.path}/regularizer", weight.regularizer)


def _attributes(path: str, owner: Any) -> Iterator[tuple[str, keras.Variable]]:
    for name, value in getattr(owner, "__dict__", {}).items():
        if isinstance(value, keras.Variable) and _is_scalar(value):
            yield f"{path}/{name.lstrip('_')}", value


def _from_function(
    model: keras.Model, function: Callable[[keras.Model], Any]
) -> list[keras.Variable]:
    found = function(model)
    variables = list(found) if isinstance(found, (list, tuple)) else [found]
    for variable in variables:
        if not isinstance(variable, keras.Variable) or not _is_scalar(variable):
            raise ValueError(
                "The target function must return scalar `keras.Variable`s that are not "
                "trainable: only these "
                f"can be moved during training. Received: {variable!r}."
            )
    if not variables:
        raise ValueError("The target function returned no variable of this model.")
    return variables


def _is_scalar(variable: keras.Variable) -> bool:
    is_float = keras.backend.is_float_dtype(variable.dtype)
    return len(variable.shape) == 0 and is_float and not variable.trainable


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in sorted(set(names))) or "nothing"
