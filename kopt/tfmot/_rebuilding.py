"""Building a model again in the other Keras, layer by layer and call by call.

The two directions share all but the layers themselves, so what knows about those is
given to the `Rebuilder` as a `Dialect`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import keras

from kopt._keras.two_versions import Call, calls, input_layer, is_functional
from kopt.tfmot._layer_classes import is_operation
from kopt.tfmot._variables import plain_name
from kopt.tfmot.errors import UnsupportedLayerError

Converters = Mapping[type, Callable[[Any], Any]]


class Unsupported(Exception):
    """Something has no counterpart; the message says why."""


class Dialect(ABC):
    """What the Keras that a model goes to calls things.

    Attributes:
        name: `"tf_keras"` or `"Keras 3"`.
        library: The package to build with.
        origin: The package that models come from.
        older: Whether that is tf_keras.
    """

    name: str
    library: Any
    origin: Any
    older: bool

    @abstractmethod
    def layer(self, layer: Any, rebuilder: Rebuilder) -> Any:
        """The counterpart of a layer, without its weights.

        Returns:
            None if a layer inside it has no counterpart, which is then known already.

        Raises:
            Unsupported: If it has none itself.
        """

    @abstractmethod
    def activation(self, value: Any) -> Any:
        """The counterpart of an activation, of its name or its configuration."""

    @abstractmethod
    def arguments(self, call: Call) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call that its counterpart has to be given.

        Raises:
            Unsupported: If one of them cannot be given.
        """

    @abstractmethod
    def apply(self, operation: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """The result of an operation that is no layer, on the new tensors."""

    @abstractmethod
    def input(self, tensor: Any, layer: Any) -> Any:
        """An input like `tensor`, which comes from the input layer `layer`."""


class Rebuilder:
    """Builds counterparts and remembers them, so that what is shared stays shared.

    Args:
        dialect: The Keras to build in.
        converters: A function for each class of layer that the user builds otherwise.
    """

    def __init__(self, dialect: Dialect, converters: Converters | None) -> None:
        self.dialect = dialect
        self.converters = dict(converters or {})
        self.problems: dict[str, str] = {}
        self._known: dict[int, Any] = {}
        self._path: list[str] = []

    def build(self, model: Any) -> Any:
        """The counterpart of a whole model.

        Raises:
            UnsupportedLayerError: If a layer has none; it names all of them.
        """
        result = self.counterpart(model)
        if self.problems:
            raise UnsupportedLayerError(self.dialect.name, self.problems)
        return result

    def counterpart(self, layer: Any) -> Any:
        """The counterpart of a layer or of a model inside the model; None without."""
        if id(layer) not in self._known:
            self._path.append(layer.name)
            try:
                self._known[id(layer)] = self._made(layer)
            except Unsupported as problem:
                self._known[id(layer)] = None
                self._note(str(problem))
            finally:
                self._path.pop()
        return self._known[id(layer)]

    def _made(self, layer: Any) -> Any:
        kind = type(layer)
        if kind in self.converters:
            return self.converters[kind](layer)
        if isinstance(layer, self.dialect.origin.Model):
            made = self._model(layer)
        else:
            made = self.dialect.layer(layer, self)
        if made is not None and not layer.trainable:
            made.trainable = False
        return made

    def _note(self, reason: str) -> None:
        # The name of the outermost model says nothing.
        self.problems["/".join(self._path[1:]) or self._path[0]] = reason

    def _model(self, model: Any) -> Any:
        sequential = isinstance(model, self.dialect.origin.Sequential)
        if not sequential and not is_functional(model):
            raise Unsupported(
                f"{type(model).__name__} is a subclassed model, whose code cannot be "
                "read; only sequential and functional models can"
            )
        inner = [self.counterpart(layer) for layer in _named_layers(model)]
        if None in inner:
            return None
        return self._sequence(model, inner) if sequential else self._graph(model)

    def _sequence(self, model: Any, inner: list[Any]) -> Any:
        tensors = getattr(model, "inputs", None)
        if not tensors:
            raise Unsupported(
                "its input shape is not known: put a `keras.Input` first in it"
            )
        first = self._input(tensors[0])
        return self.dialect.library.Sequential(
            [first, *inner], name=plain_name(model.name)
        )

    def _graph(self, model: Any) -> Any:
        plan = [self._read(call) for call in calls(model)]
        if self.problems:
            return None  # all are known that can be without building
        needed = {id(tensor) for tensor in keras.tree.flatten(model.output)}
        steps = []
        # Backwards: what only made a mask that Keras makes by itself is left out.
        for call in reversed(plan):
            if needed.isdisjoint(id(tensor) for tensor in call.outputs):
                continue
            steps.append(call)
            needed |= {
                id(part) for part in keras.tree.flatten([call.args, call.kwargs])
            }
        new = {id(tensor): self._input(tensor) for tensor in model.inputs}

        def renewed(structure: Any) -> Any:
            return keras.tree.map_structure(
                lambda part: new.get(id(part), part), structure
            )

        for call in reversed(steps):
            result = self._call(call.layer, renewed(call.args), renewed(call.kwargs))
            if result is None:
                return None
            flat = keras.tree.flatten(result)
            new |= zip(map(id, call.outputs), flat, strict=True)
        return self.dialect.library.Model(
            renewed(model.input), renewed(model.output), name=plain_name(model.name)
        )

    def _read(self, call: Call) -> Call:
        self._path.append(call.layer.name)
        try:
            args, kwargs = self.dialect.arguments(call)
        except Unsupported as problem:
            self._note(str(problem))
            return call
        finally:
            self._path.pop()
        return call._replace(args=args, kwargs=kwargs)

    def _call(self, layer: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        if id(layer) in self._known:
            return self._known[id(layer)](*args, **kwargs)
        self._path.append(layer.name)
        try:
            return self.dialect.apply(layer, args, kwargs)
        except Unsupported as problem:
            self._note(str(problem))
            return None
        finally:
            self._path.pop()

    def _input(self, tensor: Any) -> Any:
        return self.dialect.input(tensor, input_layer(tensor))


def _named_layers(model: Any) -> list[Any]:
    return [
        layer
        for layer in model.layers
        if type(layer).__name__ != "InputLayer" and not is_operation(layer)
    ]
