"""What a layer holds in its attributes, whether Keras tracks it or not.

Keras tracks variables and layers that are set as attributes before a layer is built. It
does not track the states of a stateful recurrent layer, raw `tf.Variable`s, what a
layer hides from it (`no_automatic_dependency_tracking`, objects of the user's own), or
the teacher that a loss function refers to.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from kopt._keras.saveable import is_attached_state

# Attributes that lead from a layer to the graphs it was called in, and so to models
# that it is no part of.
_GRAPH = {"_inbound_nodes", "_outbound_nodes"}
_VARIABLES = (keras.Variable, tf.Variable)
_PLAIN = (str, bytes, int, float, complex, bool, type(None), type, types.ModuleType)
_LEAVES = (
    *_PLAIN,
    keras.KerasTensor,
    keras.callbacks.Callback,
    keras.optimizers.Optimizer,
    tf.Tensor,
    tf.types.experimental.PolymorphicFunction,
)
_WITH_PARTS = (
    keras.Operation,
    keras.Metric,
    keras.Loss,
    keras.random.SeedGenerator,
    keras.regularizers.Regularizer,
    tf.Module,
    tf.random.Generator,
)
# Whatever else these libraries define has no state of a layer in it.
_LIBRARIES = ("keras", "tensorflow", "numpy", "tf_keras", "wrapt", "threading")


def holdings(layer: keras.Layer, *, attached: bool = True) -> Iterator[Any]:
    """A layer and all objects in its attributes, at any depth, each once.

    Args:
        layer: A layer or model.
        attached: Whether to look into the state that kopt attaches to a model, such as
            masks. No pass through the model reads it.
    """
    waiting: list[Any] = [layer]
    seen: set[int] = set()
    while waiting:
        thing = waiting.pop()
        if isinstance(thing, _LEAVES) or id(thing) in seen:
            continue
        if not attached and is_attached_state(thing):
            continue
        seen.add(id(thing))
        yield thing
        if not isinstance(thing, _VARIABLES):
            waiting.extend(_parts(thing))


def held_layers(layer: keras.Layer) -> set[int]:
    """The `id`s of a layer and of all layers that it holds, tracked or not."""
    return {id(one) for one in holdings(layer) if isinstance(one, keras.Layer)}


def held_variables(layer: keras.Layer, *, attached: bool = True) -> list[Any]:
    """The variables of Keras and TensorFlow that a layer holds, tracked or not."""
    things = holdings(layer, attached=attached)
    found = [one for one in things if isinstance(one, _VARIABLES)]
    # Keras's variables have one of TensorFlow's inside.
    inside = {id(one.value) for one in found if isinstance(one, keras.Variable)}
    return [one for one in found if id(one) not in inside]


def _parts(thing: Any) -> Iterable[Any]:
    if isinstance(thing, Mapping):
        return list(thing.values())
    if isinstance(thing, (list, tuple, set, frozenset)):
        return list(thing)
    if isinstance(thing, types.MethodType):
        return [thing.__self__, thing.__func__]
    if isinstance(thing, types.FunctionType):
        return [cell.cell_contents for cell in thing.__closure__ or () if _full(cell)]
    library = type(thing).__module__.partition(".")[0] in _LIBRARIES
    if library and not isinstance(thing, _WITH_PARTS):
        return ()
    attributes = getattr(thing, "__dict__", {})
    return [value for name, value in attributes.items() if name not in _GRAPH]


def _full(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
