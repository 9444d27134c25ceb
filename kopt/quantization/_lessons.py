"""How far a model's outputs are from its teacher's, output by output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from kopt._keras.graphs import graph_calls, has_graph

_SOFTMAX, _SIGMOID = keras.activations.softmax, keras.activations.sigmoid


@dataclass(frozen=True)
class Lessons:
    """A teacher, and a loss for each output of its student.

    A plain object, so that the teacher's weights are not counted as the student's.

    Args:
        model: The teacher.
        weight: The share of the distance in the student's loss.
        losses: One loss for all outputs, or one each in the structure of the outputs;
            None chooses each by what computes the output.
    """

    model: keras.Model
    weight: float
    losses: Any = None

    def distance(self, student: Any, x: Any, y_pred: Any, sample_weight: Any) -> Any:
        """The sum over outputs of the losses against the teacher's outputs."""
        target = self.model(x, training=False)
        check_alike(self.model, target, student, y_pred)
        outputs = keras.tree.flatten(y_pred)
        targets = map(keras.ops.stop_gradient, keras.tree.flatten(target))
        losses = self._losses(student, y_pred)
        weights = _for_each("sample_weight", sample_weight, y_pred)
        total = 0.0
        for one, *pair, weight in zip(losses, targets, outputs, weights, strict=True):
            if one is not None:
                total += one(*pair, sample_weight=weight)
        return total

    def _losses(self, student: Any, y_pred: Any) -> list[Any]:
        if self.losses is None:
            return default_losses(student, len(keras.tree.flatten(y_pred)))
        return _for_each("loss", self.losses, y_pred)


def check_alike(teacher: Any, target: Any, student: Any, y_pred: Any) -> None:
    """Refuse outputs of a teacher that do not stand for those of its student.

    Args:
        teacher: The teacher.
        target: Its outputs.
        student: The model that learns.
        y_pred: Its outputs.

    Raises:
        ValueError: If their names, number, order or shapes differ.
    """
    theirs, own = _shapes(target), _shapes(y_pred)
    if list(theirs) != list(own):
        raise ValueError(
            f"The outputs of the teacher {teacher.name!r} must be those of the model "
            f"{student.name!r}: a dict of the same names, or a list as long. Received: "
            f"{_named(target, theirs)}; the model has {_named(y_pred, own)}. Make a "
            "teacher with these: `keras.Model(teacher.inputs, {name: output, ...})`."
        )
    for path, shape in own.items():
        sizes = zip(shape, theirs[path], strict=False)
        fits = len(shape) == len(theirs[path]) and all(
            mine == other or None in (mine, other) for mine, other in sizes
        )
        if not fits:
            where = f" {'/'.join(map(str, path))!r}" if path else ""
            raise ValueError(
                f"The teacher {teacher.name!r} must have outputs of the same shapes as "
                f"the model {student.name!r}. Received: output{where} of shape "
                f"{theirs[path]}; the model's is {shape}."
            )


def symbolic_outputs(model: Any) -> Any:
    """The symbolic outputs of a model with a graph, in their structure."""
    if isinstance(model, keras.Sequential):
        # It has one, and `output` only where another model has called it.
        return model.outputs[0]
    return model.output


def default_losses(student: Any, count: int) -> list[keras.losses.Loss]:
    """The loss that fits each output of a model, by what computes it."""
    return [
        keras.losses.KLDivergence()
        if activation is _SOFTMAX
        else keras.losses.BinaryCrossentropy()
        if activation is _SIGMOID
        else keras.losses.MeanSquaredError()
        for activation in _activations(student, count)
    ]


def _activations(model: Any, count: int) -> list[Any]:
    """The activation that each output comes from; None for another or unknown one."""
    if not has_graph(model):
        # Written by hand: which layer is the last one is known only if it is alone.
        layers = getattr(model, "layers", None)
        return [_activation(layers[-1]) if layers and count == 1 else None] * count
    makers = {
        id(output): (call.operation, place, len(call.outputs))
        for call in graph_calls(model)
        for place, output in enumerate(call.outputs)
    }
    found = []
    for output in keras.tree.flatten(symbolic_outputs(model)):
        maker, place, outputs = makers.get(id(output), (None, 0, 1))
        if isinstance(maker, keras.Model):
            found.append(_activations(maker, outputs)[place])
        else:
            found.append(_activation(maker))
    return found


def _activation(maker: Any) -> Any:
    if isinstance(maker, (keras.layers.TimeDistributed, keras.layers.Bidirectional)):
        maker = getattr(maker, "layer", maker)
    # Layers, and the operations of a functional model, in quantized form too.
    names = {kind.__name__ for kind in type(maker).__mro__}
    if "Softmax" in names:
        return _SOFTMAX
    if "Sigmoid" in names:
        return _SIGMOID
    if isinstance(maker, keras.layers.RNN):
        # The activation of its cell is not what it returns.
        return None
    return getattr(maker, "activation", None)


def _for_each(name: str, given: Any, y_pred: Any) -> list[Any]:
    """What was given for all outputs, or for each in their structure, as a list."""
    count = len(keras.tree.flatten(y_pred))
    if not isinstance(given, (dict, list, tuple)):
        return [given] * count
    flat = [one for _, one in _leaves(given)]
    same = [path for path, _ in _leaves(given)] == list(_shapes(y_pred))
    if not same:
        raise ValueError(
            f"`{name}` must be one for all outputs, or one for each in the structure "
            f"of the model's outputs: {_named(y_pred, _shapes(y_pred))}. Received: "
            f"{given!r}."
        )
    return flat


def _shapes(outputs: Any) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """The shape of each output by its path in the structure."""
    return {path: tuple(leaf.shape) for path, leaf in _leaves(outputs)}


def _leaves(structure: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, Any]]:
    """Leaves with their paths, in the order of `keras.tree.flatten`; None is a leaf."""
    if isinstance(structure, dict):
        parts = [(key, structure[key]) for key in sorted(structure)]
    elif isinstance(structure, (list, tuple)):
        # A list of one output is that output, as for `fit`.
        parts = list(enumerate(structure))
        if len(parts) == 1 and not path:
            return _leaves(structure[0])
    else:
        return [(path, structure)]
    return [leaf for key, part in parts for leaf in _leaves(part, (*path, key))]


def _named(outputs: Any, shapes: dict[tuple[Any, ...], tuple[Any, ...]]) -> str:
    if isinstance(outputs, dict):
        return f"a dict of {', '.join(map(repr, sorted(outputs)))}"
    if isinstance(outputs, (list, tuple)):
        return f"a {type(outputs).__name__} of {len(shapes)} outputs"
    return "one output"
