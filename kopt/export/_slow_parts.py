"""What makes a file of integers slower or larger than one might expect.

Read from the file, without running it: what was measured to be slow in the runtimes'
own kernels. Whether a file is slower than the float one shows only beside that one.
"""

from __future__ import annotations

import keras

from kopt._signature import has_loops
from kopt.export._file_contents import FileContents, Operation
from kopt.export._operator_lists import LISTS, refused

# XNNPACK's 8-bit convolutions take channels by eights: of 1 or 3 most is filling.
_WHOLE_CHANNELS = 8

# Values in the result of a first convolution below which its time does not matter.
_LARGE = 10_000


def slow_parts(
    contents: FileContents, model: keras.Model, size_bytes: int
) -> tuple[str, ...]:
    """Sentences on what in a file costs time or room, and what helps.

    Args:
        contents: The file.
        model: The model that it was made of.
        size_bytes: Its size.
    """
    found = [
        _first_convolution(contents),
        _outside_delegate(contents),
        _unrolled(contents, model, size_bytes),
    ]
    return tuple(filter(None, found))


def _first_convolution(contents: FileContents) -> str:
    for operation in contents.operations:
        if operation.name != "CONV_2D" or not _is_integer(operation, contents):
            continue
        channels = contents.tensors[operation.inputs[0]].shape[-1]
        result = contents.tensors[operation.outputs[0]].shape
        size = result[1] * result[2] * result[3]
        if channels < _WHOLE_CHANNELS and size >= _LARGE:
            return (
                f"a convolution of {channels} channels takes 2 to 3 times as long in "
                "int8 as in float on x86: keep it float (`float_layers`) if it is much "
                "of the file's time, which `beside_float=True` shows"
            )
    return ""


def _outside_delegate(contents: FileContents) -> str:
    known = LISTS["xnnpack"]
    names = {
        operation.name
        for operation in contents.operations
        if operation.name in _REFERENCE_KERNELS
        and _is_integer(operation, contents)
        and refused(operation, contents, known)
    }
    if not names:
        return ""
    listed = ", ".join(sorted(names))
    return f"{listed}: value by value in int8, outside of the XNNPACK delegate"


# Operations whose int8 kernels in the runtime are not vectorized on every processor.
_REFERENCE_KERNELS = frozenset("BATCH_MATMUL DIV GELU HARD_SWISH PRELU".split())


def _unrolled(contents: FileContents, model: keras.Model, size_bytes: int) -> str:
    if not has_loops(model) or any(one.name == "WHILE" for one in contents.operations):
        return ""
    count, weights = len(contents.operations), 4 * model.count_params()
    text = f"recurrent layers are unrolled ({count} operations): integers have no loop"
    if size_bytes <= weights:
        return text
    return (
        f"{text}. The file is larger than the weights in float32 "
        f"({weights / 1024:,.1f} KB); quantization='dynamic' keeps the loop"
    )


def _is_integer(operation: Operation, contents: FileContents) -> bool:
    dtypes = {contents.tensors[index].dtype for index in operation.outputs}
    return bool(dtypes & {"int8", "uint8"})
