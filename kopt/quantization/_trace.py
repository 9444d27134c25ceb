"""Which layers a model calls, and which tensors flow between them."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from kopt.quantization._layer_quantizer import data_arguments
from kopt.quantization._tracking import own_layers, sublayers
from kopt.quantization.rule import rule_for


@dataclass(frozen=True)
class Call:
    """One call of one layer.

    Attributes:
        layer: The layer.
        inputs: Identity of each tensor among the arguments, with its position there.
        outputs: Identities of the tensors that came back.
    """

    layer: keras.Layer
    inputs: tuple[tuple[int, int], ...]
    outputs: tuple[int, ...]


@dataclass
class Trace:
    """The calls of one pass through a model at inference, in order.

    Calls that handed their input on untouched, as dropout does at inference, are not
    in it, for what follows them sees the same tensor.
    """

    calls: list[Call] = field(default_factory=list)
    untouched: list[keras.Layer] = field(default_factory=list)
    outputs: set[int] = field(default_factory=set)
    # Keeps the tensors alive: an identity must not be given twice.
    _tensors: list[Any] = field(default_factory=list)

    def record(self, layer: keras.Layer, arguments: Any, results: Any) -> None:
        leaves = list(enumerate(keras.tree.flatten(arguments)))
        tensors = [(at, one) for at, one in leaves if _is_numeric_tensor(one)]
        outputs = [one for one in keras.tree.flatten(results) if tf.is_tensor(one)]
        self._tensors += [*leaves, *outputs]
        inputs = tuple((at, id(one)) for at, one in tensors)
        if {id(one) for one in outputs} <= {identity for _, identity in inputs}:
            self.untouched.append(layer)
            return
        self.calls.append(Call(layer, inputs, tuple(id(one) for one in outputs)))

    def finish(self, results: Any) -> None:
        tensors = keras.tree.flatten(results)
        self._tensors += tensors
        self.outputs = {id(one) for one in tensors}


def leaf_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers in which the work is done: those with a rule, else without parts."""
    inside_of_leaves: set[int] = set()
    leaves = []
    for layer in sublayers(model):
        if rule_for(layer) is not None:
            inside_of_leaves.update(map(id, sublayers(layer)))
    for layer in sublayers(model):
        if id(layer) in inside_of_leaves:
            continue
        if rule_for(layer) is not None or not own_layers(layer):
            leaves.append(layer)
    return leaves


def trace(model: keras.Model, batch: Any = None) -> Trace:
    """The calls that a model makes at inference, whatever way it was written.

    Args:
        model: A built model.
        batch: One batch of inputs, for a model that does not know their shape.
    """
    record = Trace()
    signature = _signature(model, batch)

    def run(inputs: Any) -> Any:
        outputs = model(inputs, training=False)
        record.finish(outputs)
        return outputs

    with _recording(leaf_layers(model), record), warnings.catch_warnings():
        # A model with inputs in a dict takes a list, too, but says so.
        warnings.simplefilter("ignore", UserWarning)
        tf.function(run, autograph=False).get_concrete_function(signature)
    return record


def _signature(model: keras.Model, batch: Any) -> Any:
    if batch is not None:
        return keras.tree.map_structure(tf.type_spec_from_value, batch)
    if getattr(model, "inputs", None):
        specs = [tf.TensorSpec(one.shape, one.dtype) for one in model.inputs]
        return specs[0] if len(specs) == 1 else specs
    shape = (model.get_build_config() or {}).get("input_shape")
    if shape is None or not all(
        size is None or isinstance(size, int) for size in shape
    ):
        raise ValueError(
            f"The shape of the inputs of {model.name!r} is not known. Pass "
            "`calibration_data`, from which it can be read."
        )
    return tf.TensorSpec(shape, "float32")


def _is_numeric_tensor(value: Any) -> bool:
    return tf.is_tensor(value) and value.dtype != tf.bool


@contextmanager
def _recording(layers: list[keras.Layer], record: Trace) -> Iterator[None]:
    classes = [type(layer) for layer in layers]
    for layer in layers:
        layer.__class__ = _recording_class(type(layer))
        vars(layer)["_kopt_record"] = record
    try:
        yield
    finally:
        for layer, own_class in zip(layers, classes, strict=True):
            layer.__class__ = own_class
            del vars(layer)["_kopt_record"]


@functools.cache
def _recording_class(layer_class: type[keras.Layer]) -> type[keras.Layer]:
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        results = layer_class.__call__(self, *args, **kwargs)
        record = vars(self)["_kopt_record"]
        record.record(self, data_arguments(args, kwargs), results)
        return results

    return type(layer_class)(
        layer_class.__name__, (layer_class,), {"__call__": __call__}
    )
