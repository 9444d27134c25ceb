"""Which operations devices and delegates take, from lists that their makers publish.

Each list says where it is from and how old it is. A list is not the device: it leaves
out what depends on sizes and options, and newer versions take more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from kopt.export._file_contents import FileContents, Operation

_INTEGERS = ("int8", "uint8")

Limit = Callable[[Operation, FileContents], str]


@dataclass(frozen=True)
class OperatorList:
    """The operations that a target takes.

    Attributes:
        source: Where the list is from.
        version: Of what it is, and when.
        float_operations: Operations on 32-bit floats.
        integer_operations: Operations on 8-bit integers.
        limits: By operation, what says why one of that kind is not taken; empty if it
            is.
        every: The same for operations of any kind.
        other_types: Whether operations on other types are taken too.
        adders: By operation, the function of the operator resolver that adds it.
    """

    source: str
    version: str
    float_operations: frozenset[str]
    integer_operations: frozenset[str]
    limits: dict[str, Limit] = field(default_factory=dict)
    every: Limit | None = None
    other_types: bool = False
    adders: dict[str, str] = field(default_factory=dict)


def _few(count: int, *, outputs: bool = False) -> Limit:
    def limit(operation: Operation, contents: FileContents) -> str:
        found = len(operation.outputs if outputs else operation.inputs)
        kind = "outputs" if outputs else "inputs"
        return f"{found} {kind}, at most {count} are taken" if found > count else ""

    return limit


def _images(operation: Operation, contents: FileContents) -> str:
    rank = len(contents.tensors[operation.inputs[0]].shape)
    return "" if rank == 4 else f"of {rank} axes, only images of 4 axes are taken"


_XNNPACK_BOTH = """
    ADD CONCATENATION CONV_2D DEPTH_TO_SPACE DEPTHWISE_CONV_2D ELU FULLY_CONNECTED
    LEAKY_RELU LOGISTIC MAX_POOL_2D MEAN MUL PAD RESHAPE RESIZE_BILINEAR SLICE
    SPACE_TO_DEPTH SPLIT SUB TANH TRANSPOSE TRANSPOSE_CONV
""".split()
_XNNPACK_FLOAT = """
    ABS AVERAGE_POOL_2D CEIL DIV FLOOR HARD_SWISH MAXIMUM MINIMUM NEG PRELU RELU RELU6
    RELU_N1_TO_1 ROUND SOFTMAX SQRT SQUARE SQUARED_DIFFERENCE STRIDED_SLICE DEQUANTIZE
""".split()
_XNNPACK = OperatorList(
    source="https://github.com/google-ai-edge/LiteRT, tflite/delegates/xnnpack/README",
    version="LiteRT at commit 3a653aa",
    float_operations=frozenset(_XNNPACK_BOTH + _XNNPACK_FLOAT),
    integer_operations=frozenset([*_XNNPACK_BOTH, "QUANTIZE"]),
    limits={
        "CONCATENATION": _few(4),
        "SPLIT": _few(4, outputs=True),
        "MEAN": _images,
        "RESIZE_BILINEAR": _images,
    },
)

# The functions of the resolver whose names do not follow from the operation's.
_OTHER_ADDERS = {
    "AVERAGE_POOL_2D": "AddAveragePool2D",
    "CONV_2D": "AddConv2D",
    "CUMSUM": "AddCumSum",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "L2_POOL_2D": "AddL2Pool2D",
    "MAX_POOL_2D": "AddMaxPool2D",
    "PADV2": "AddPadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "AddUnidirectionalSequenceLSTM",
}
_MICRO_OPERATIONS = """
    ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL
    BATCH_TO_SPACE_ND BROADCAST_ARGS BROADCAST_TO CALL_ONCE CAST CEIL CONCATENATION
    CONV_2D COS CUMSUM DEPTH_TO_SPACE DEPTHWISE_CONV_2D DEQUANTIZE DIV
    DYNAMIC_UPDATE_SLICE EMBEDDING_LOOKUP ELU EQUAL EXP EXPAND_DIMS FILL FLOOR
    FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GATHER_ND GREATER GREATER_EQUAL
    HARD_SWISH IF L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOG
    LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D
    MIRROR_PAD MEAN MINIMUM MUL NEG NOT_EQUAL PACK PAD PADV2 PRELU QUANTIZE
    READ_VARIABLE REDUCE_ALL REDUCE_MAX REDUCE_MIN RELU RELU6 RESHAPE RESIZE_BILINEAR
    RESIZE_NEAREST_NEIGHBOR REVERSE_V2 ROUND RSQRT SELECT_V2 SHAPE SIN SLICE SOFTMAX
    SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQUEEZE SQRT SQUARE
    SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM SVDF TANH TRANSPOSE_CONV TRANSPOSE UNPACK
    UNIDIRECTIONAL_SEQUENCE_LSTM VAR_HANDLE WHILE ZEROS_LIKE
""".split()


def _adder(operation: str) -> str:
    words = operation.lower().split("_")
    usual = "Add" + "".join(word.capitalize() for word in words)
    return _OTHER_ADDERS.get(operation, usual.replace("Matmul", "MatMul"))


_MICRO = OperatorList(
    source=(
        "https://github.com/tensorflow/tflite-micro, "
        "tensorflow/lite/micro/micro_mutable_op_resolver.h"
    ),
    version="commit 90b983c of 2026-08-20",
    float_operations=frozenset(_MICRO_OPERATIONS),
    integer_operations=frozenset(_MICRO_OPERATIONS),
    other_types=True,
    adders={operation: _adder(operation) for operation in _MICRO_OPERATIONS},
)


def _three_axes(operation: Operation, contents: FileContents) -> str:
    """Whether all but the three last sizes of each tensor are 1."""
    for index in (*operation.inputs, *operation.outputs):
        tensor = contents.tensors[index]
        if tensor.data is None and math.prod(tensor.shape[:-3]) > 1:
            return f"of the shape {tensor.shape}, only the last 3 sizes may exceed 1"
    return ""


def _slope_of_channels(operation: Operation, contents: FileContents) -> str:
    shape = contents.tensors[operation.inputs[1]].shape
    if math.prod(shape[:-1]) == 1:
        return ""
    return "a slope for each place, only one for each channel is taken"


def _short_vector(operation: Operation, contents: FileContents) -> str:
    shape = contents.tensors[operation.inputs[0]].shape
    if math.prod(shape[:-1]) > 1:
        return f"of the shape {shape}, only a vector is taken"
    return "" if shape[-1] <= 16_000 else f"{shape[-1]} values, at most 16000 are taken"


def _joined_constant(operation: Operation, contents: FileContents) -> str:
    inputs = [contents.tensors[index] for index in operation.inputs]
    constants = [one for one in inputs if one.data is not None]
    usable = len(inputs) == 2 and all(
        one.zeros == math.prod(one.shape) for one in constants
    )
    return "" if usable or not constants else "a constant, only zeros beside one tensor"


_EDGE_TPU = OperatorList(
    source="https://coral.ai/docs/edgetpu/models-intro, table of supported operations",
    version="Edge TPU runtime 14, table as of 2026-09-06",
    float_operations=frozenset(),
    integer_operations=frozenset(
        """
        ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS
        FULLY_CONNECTED L2_NORMALIZATION LOGISTIC LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM
        MUL PACK PAD PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_N1_TO_1
        RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SLICE SOFTMAX
        SPACE_TO_DEPTH SPLIT SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM TANH
        TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM
        """.split()
    ),
    limits={
        "CONCATENATION": _joined_constant,
        "PRELU": _slope_of_channels,
        "SOFTMAX": _short_vector,
    },
    every=_three_axes,
)

_GPU_OPERATIONS = frozenset(
    """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXP FULLY_CONNECTED
    LOGICAL_AND LOGISTIC LSTM MAX_POOL_2D MAXIMUM MINIMUM MUL PAD PRELU RELU RELU6
    RESHAPE RESIZE_BILINEAR SOFTMAX STRIDED_SLICE SUB TRANSPOSE_CONV
    """.split()
)
_GPU = OperatorList(
    source="https://ai.google.dev/edge/litert/performance/gpu, GPU ML operations",
    version="page of 2025-07-24",
    float_operations=_GPU_OPERATIONS | {"DEQUANTIZE"},
    # 8-bit values are computed as floats there.
    integer_operations=_GPU_OPERATIONS | {"QUANTIZE"},
)

LISTS = {
    "xnnpack": _XNNPACK,
    "tflite-micro": _MICRO,
    "edgetpu": _EDGE_TPU,
    "litert-gpu": _GPU,
}


def refused(operation: Operation, contents: FileContents, known: OperatorList) -> str:
    """Why a target does not take an operation; empty if it does."""
    if operation.name not in known.float_operations | known.integer_operations:
        return "not in the list"
    computed = [contents.tensors[i] for i in operation.outputs]
    dtype = computed[0].dtype if computed else ""
    if dtype in _INTEGERS:
        fits = operation.name in known.integer_operations
        kinds = "float32"
    elif dtype == "float32":
        fits = operation.name in known.float_operations
        kinds = " and ".join(_INTEGERS)
    else:
        fits, kinds = known.other_types, "float32 and 8-bit integers"
    if not fits:
        return f"{dtype} values, only {kinds} are taken"
    limits = (known.limits.get(operation.name), known.every)
    reasons = (limit(operation, contents) for limit in limits if limit)
    return next(filter(None, reasons), "")
