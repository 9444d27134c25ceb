"""Layers that stay float in a file of integers.

The converter quantizes every operation that has seen data. TensorFlow's
`QuantizationDebugger` leaves out those that it is told the names of. The names are
made while the model is traced: what a user chose works in a name scope of its own, and
the converter keeps the names of what it fuses, joined together.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from kopt._weights import matching_layers
from kopt.export import _file_contents
from kopt.export._file_contents import FileContents, Operation
from kopt.export.errors import ConversionError


@dataclass(frozen=True)
class Island:
    """What one item of a user's selection means: the item in words, its layers."""

    item: str
    layers: tuple[keras.Layer, ...]


def islands(
    model: keras.Model, selection: Any, argument: str = "float_layers"
) -> tuple[Island, ...]:
    """What a user chose to stay float, or to have another type.

    Args:
        model: The model.
        selection: Names, paths, layers and layer classes, or one of them.
        argument: What the user calls this, for the messages.

    Raises:
        ValueError: If one of them fits no layer.
    """
    if isinstance(selection, (str, type, keras.Layer)):
        selection = [selection]
    return tuple(
        Island(str(item), tuple(matching_layers(model, item, argument)))
        for item in selection
    )


@contextlib.contextmanager
def marked(chosen: Sequence[Island]) -> Iterator[None]:
    """Within the block, each island is traced under a name of its own."""
    before: list[tuple[keras.Layer, Any]] = []
    for number, island in enumerate(chosen):
        for layer in island.layers:
            before.append((layer, vars(layer).get("call")))
            # Past Keras's bookkeeping of attributes: this is no part of the layer.
            vars(layer)["call"] = _in_scope(layer.call, _mark(number))
    try:
        yield
    finally:
        for layer, own in reversed(before):
            del vars(layer)["call"]
            if own is not None:
                vars(layer)["call"] = own


def convert(converter: tf.lite.TFLiteConverter, items: Sequence[str]) -> bytes:
    """The file, with the operations of the marked islands in float.

    Args:
        converter: A converter with representative data.
        items: The items of the islands that were `marked`, in that order.

    Raises:
        ConversionError: If an item has no operation that could stay float, or if
            nothing else is left.
    """
    experimental = tf.lite.experimental
    integer_ends = converter.inference_input_type != tf.float32
    options = functools.partial(
        experimental.QuantizationDebugOptions, fully_quantize=integer_ends
    )
    debugger = experimental.QuantizationDebugger(
        converter=converter, debug_options=options()
    )
    found = _operations_of(items, debugger.calibrated_model)
    # The debugger finds no operation with several results by its name: of that kind,
    # a split or the like that only moves values, all in the file stay float.
    single = [name for _, names in found if len(names) == 1 for name in names]
    kinds = sorted({kind for kind, names in found if len(names) > 1})
    try:
        debugger.options = options(denylisted_nodes=single, denylisted_ops=kinds)
    except ValueError as error:
        raise ConversionError(
            f"`float_layers` ({', '.join(items)}) leaves nothing to quantize. Name "
            "fewer layers, or export with quantization=None."
        ) from error
    content: bytes = debugger.get_nondebug_quantized_model()
    return content


def _operations_of(
    items: Sequence[str], calibrated: bytes
) -> list[tuple[str, list[str]]]:
    """Kind and names of the results of each operation of the islands."""
    contents = _file_contents.read(calibrated, names_of_signature=False)
    return [
        (one.name, [contents.tensors[index].name for index in one.outputs])
        for one in marked_operations(items, contents)
    ]


def marked_operations(
    items: Sequence[str], contents: FileContents, kept: str = "stay float"
) -> list[Operation]:
    """The operations of the marked islands in a file.

    Args:
        items: The items of the islands, in the order in which they were marked.
        contents: The file, with the names of tensors as they stand there.
        kept: What the layers are to do, for the message.

    Raises:
        ConversionError: If an item has no operation of its own.
    """
    operations: list[Operation] = []
    for number, item in enumerate(items):
        mark = f"/{_mark(number)}"
        own = [one for one in contents.operations if _belongs(one, contents, mark)]
        if not own:
            raise ConversionError(
                f"{item!r} cannot {kept}: it leaves no operation of its own in the "
                "file. Name the layer that it is computed together with."
            )
        operations += own
    return operations


def _mark(number: int) -> str:
    return f"float_island_{number}_"


def _in_scope(call: Callable[..., Any], scope: str) -> Callable[..., Any]:
    @functools.wraps(call)
    def call_in_scope(*args: Any, **kwargs: Any) -> Any:
        with tf.name_scope(scope):
            return call(*args, **kwargs)

    return call_in_scope


def _belongs(operation: Operation, contents: FileContents, mark: str) -> bool:
    outputs = [contents.tensors[index] for index in operation.outputs]
    if any(mark in tensor.name for tensor in outputs):
        return True
    ends = {tensor.index for tensor in contents.outputs}
    ends |= {contents.source(tensor).index for tensor in contents.outputs}
    if not ends.intersection(operation.outputs):
        return False
    # An output of the model has a name that says nothing of the layer, but the
    # constants of the operation do, and without constants its inputs.
    inputs = [contents.tensors[index] for index in operation.inputs]
    constants = [tensor for tensor in inputs if tensor.data is not None]
    return any(mark in tensor.name for tensor in constants or inputs)
