"""What goes into a model and what comes out of it, each with a name.

A Keras model takes a tensor, a list, a dict or several arguments; a file takes named
tensors of a fixed shape. A `Signature` stands between the two: it lists the named
inputs in the model's own order, calls the model with them and names what comes back.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kopt._keras.attached_state import build_config
from kopt._keras.layer_tree import with_nested_layers
from kopt._keras.model_state import state_kept

# Names that Keras made up for want of one; they count up within a process.
_MADE_UP = re.compile(r"^(keras_tensor|input_layer)(_\d+)?(CLONE)*$")


@dataclass(frozen=True)
class Signature:
    """The named inputs of a model and the way to call it with them.

    Attributes:
        model: The Keras model.
        inputs: A specification for each input, in the model's own order. A size that
            is not fixed is None.
        pack: Turns a flat list of inputs into the arguments of a call.
    """

    model: keras.Model
    inputs: dict[str, tf.TensorSpec]
    pack: Callable[[Sequence[Any]], tuple[list[Any], dict[str, Any]]]

    @property
    def specs(self) -> list[tf.TensorSpec]:
        """The inputs' specifications, in the model's own order."""
        return list(self.inputs.values())

    def raw_call(self, tensors: Sequence[Any]) -> Any:
        """What the model returns, in its own structure, at inference."""
        arguments, named = self.pack(tensors)
        return self.model(*arguments, training=False, **named)

    def call(self, tensors: Sequence[Any]) -> dict[str, Any]:
        """What the model returns, flat and named."""
        return self.named(self.raw_call(tensors))

    def named(self, outputs: Any) -> dict[str, Any]:
        """A name for each of the model's outputs."""
        names = output_names(self.model, outputs)
        return dict(zip(names, keras.tree.flatten(outputs), strict=True))

    def predict(
        self, samples: Mapping[str, np.ndarray], batch_size: int = 32
    ) -> dict[str, np.ndarray]:
        """The model's outputs for named samples, by batches.

        What the model remembers goes on from batch to batch, and is then as before.
        """
        count = len(next(iter(samples.values())))
        size, parts = min(batch_size, count), []
        call: Callable[[list[Any]], dict[str, Any]] = self.call
        with state_kept(self.model):
            for start in range(0, count, size):
                chosen = np.arange(start, min(start + size, count))
                if has_loops(self.model):
                    # Filled up with the first samples: one size is traced once.
                    chosen = np.arange(start, start + size) % count
                batch = [samples[name][chosen] for name in self.inputs]
                batch = [keras.ops.convert_to_tensor(x) for x in batch]
                if not start and has_loops(self.model):
                    call = self._traced(batch)
                parts.append(
                    {n: keras.ops.convert_to_numpy(y) for n, y in call(batch).items()}
                )
        return {
            name: np.concatenate([part[name] for part in parts])[:count]
            for name in parts[0]
        }

    def _traced(self, batch: list[Any]) -> Callable[[Sequence[Any]], dict[str, Any]]:
        """`call` as a graph: else each step of a recurrent layer costs like a trace."""
        function = tf.function(lambda *tensors: self.call(tensors), autograph=False)
        concrete = function.get_concrete_function(*batch)
        return lambda tensors: concrete(*tensors)

    def with_batch(self, batch_size: int | None) -> Signature:
        """The same signature for batches of another size (None: of any size)."""
        inputs = {
            name: tf.TensorSpec([batch_size, *spec.shape[1:]], spec.dtype, name)
            for name, spec in self.inputs.items()
        }
        return Signature(self.model, inputs, self.pack)

    def with_shapes_of(self, samples: Mapping[str, np.ndarray]) -> Signature:
        """The same signature with sizes that the model leaves open taken from data."""
        inputs = {}
        for name, spec in self.inputs.items():
            found = samples[name].shape
            shape = [
                size if index == 0 or size is not None else found[index]
                for index, size in enumerate(spec.shape)
            ]
            inputs[name] = tf.TensorSpec(shape, spec.dtype, name)
        return Signature(self.model, inputs, self.pack)

    @property
    def open_inputs(self) -> list[str]:
        """Inputs that have a size besides the batch that is not fixed."""
        return [name for name, spec in self.inputs.items() if None in spec.shape[1:]]


def has_loops(model: keras.Model) -> bool:
    """Whether a model has recurrent layers that go from step to step in a loop."""
    return any(
        isinstance(layer, keras.layers.RNN) and not layer.unroll
        for layer in with_nested_layers(model)
    )


def signature_of(model: keras.Model) -> Signature:
    """The signature of a built model, for batches of any size.

    Raises:
        ValueError: If the model does not tell what it takes.
    """
    tensors = getattr(model, "inputs", None)
    if tensors and all(isinstance(tensor, keras.KerasTensor) for tensor in tensors):
        return _of_graph(model, tensors)
    return _of_subclass(model)


def output_names(model: keras.Model, outputs: Any) -> list[str]:
    """A name for each output: its key in a dict, else the layer that makes it."""
    paths = [path for path, _ in keras.tree.flatten_with_path(outputs)]
    layers = getattr(model, "output_names", None)
    if isinstance(model, keras.Sequential):
        layers = [model.layers[-1].name]
    by_key = any(isinstance(step, str) for path in paths for step in path)
    if not by_key and layers and len(layers) == len(paths):
        return plain_names(list(layers), "output")
    return plain_names(
        ["_".join(str(step) for step in path) for path in paths], "output"
    )


def _of_graph(model: keras.Model, tensors: Sequence[keras.KerasTensor]) -> Signature:
    # A Sequential model has one input and no structure to keep.
    structure = tensors[0] if isinstance(model, keras.Sequential) else model.input
    names = plain_names(
        [
            _input_name(path, tensor)
            for path, tensor in keras.tree.flatten_with_path(structure)
        ],
        "input",
    )
    inputs = {
        name: tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype, name)
        for name, tensor in zip(names, tensors, strict=True)
    }

    def pack(flat: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
        return [keras.tree.pack_sequence_as(structure, list(flat))], {}

    return Signature(model, inputs, pack)


def _input_name(path: tuple, tensor: keras.KerasTensor) -> str:
    """The key of an input in a dict, else the name its `Input` was given."""
    if path and isinstance(path[-1], str):
        return path[-1]
    return "" if _MADE_UP.match(tensor.name) else tensor.name


def _of_subclass(model: keras.Model) -> Signature:
    config = build_config(model)
    shapes, by_keyword = config.get("input_shape"), False
    if "shapes_dict" in config:
        # A model whose `build` takes the shape of each argument of its call.
        named = config["shapes_dict"].items()
        shapes = {key.removesuffix("_shape"): shape for key, shape in named}
        by_keyword = True
    if not shapes or (not by_keyword and len(_required_arguments(model)) > 1):
        raise ValueError(
            f"The model {model.name!r} does not tell all that it takes. Call it inside "
            "a functional model and export that: `x = keras.Input(...)`, "
            "`keras.Model(x, model(x))`."
        )
    structure = keras.tree.map_shape_structure(
        lambda shape: keras.KerasTensor([None, *shape[1:]], model.input_dtype), shapes
    )
    paths = keras.tree.flatten_with_path(structure)
    names = plain_names(
        ["_".join(str(step) for step in path) for path, _ in paths], "input"
    )
    inputs = {
        name: tf.TensorSpec(tensor.shape, tensor.dtype, name)
        for name, (_, tensor) in zip(names, paths, strict=True)
    }

    def pack(flat: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
        packed = keras.tree.pack_sequence_as(structure, list(flat))
        return ([], packed) if by_keyword else ([packed], {})

    return Signature(model, inputs, pack)


def _required_arguments(model: keras.Model) -> list[str]:
    parameters = inspect.signature(model.call).parameters.values()
    return [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        and parameter.name not in ("training", "mask")
    ]


def plain_names(names: Sequence[str], default: str) -> list[str]:
    """Names that a signature may carry: letters, digits, underscores, no name twice."""
    taken: list[str] = []
    for name in names:
        plain = re.sub(r"\W", "_", name, flags=re.ASCII).lstrip("_")
        if not plain or plain[0].isdigit():
            plain = f"{default}_{plain}".rstrip("_")
        unique, count = plain, 1
        while unique in taken:
            unique, count = f"{plain}_{count}", count + 1
        taken.append(unique)
    return taken
