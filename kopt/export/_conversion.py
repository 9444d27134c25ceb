"""From a SavedModel to the bytes of a TFLite file, here or in a process of its own.

TensorFlow's converter is C++ that ends the whole process on some graphs, loops above
all. Operations that the converter is known to live through are converted here, which
costs nothing extra; a graph with any other is converted by a second Python, which costs
the time of one TensorFlow import (about 5 s), and whose end is an ordinary error here.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from kopt.export import _float_islands, _int16_islands
from kopt.export.errors import ConversionError
from kopt.export.interpreter import Interpreter

# Operations that were converted, one by one, in every quantization, without a crash.
_KNOWN = frozenset(
    """
    Abs Add AddN AddV2 All Any ArgMax AssignVariableOp AvgPool BatchMatMulV2
    BiasAdd BroadcastTo Cast
    ConcatV2 Const Conv2D Conv2DBackpropInput Conv3D Conv3DBackpropInputV2 Cos
    Cumsum DepthToSpace DepthwiseConv2dNative Einsum Elu Equal Erf Erfc Exp
    ExpandDims FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars
    FakeQuantWithMinMaxVarsPerChannel Fill Floor
    FloorDiv FloorMod FusedBatchNormV3 GatherNd GatherV2 Greater GreaterEqual
    Identity IdentityN IsNan LeakyRelu Less LessEqual Log Log1p LogicalAnd
    LogicalNot LogicalOr LogSoftmax LRN MatMul MatrixBandPart Max Maximum MaxPool
    Mean Min Minimum MirrorPad Mul Neg NoOp NotEqual OneHot Pack Pad PadV2
    PartitionedCall Placeholder Pow Prod Range ReadVariableOp RealDiv Relu Relu6
    Reshape ResizeBilinear ResizeNearestNeighbor ReverseV2 Roll Round Rsqrt Select
    SelectV2 Selu Shape Sigmoid Sign Sin Slice Softmax Softplus Softsign
    SpaceToDepth Split SplitV Sqrt Square SquaredDifference Squeeze
    StatefulPartitionedCall StopGradient StridedSlice Sub Sum Tanh Tile TopKV2
    Transpose Unpack ZerosLike
    """.split()
)

# What a recurrent layer's loop adds: fine in float, fatal when integers are asked for.
_LOOPS = frozenset(
    """
    StatelessWhile TensorListFromTensor TensorListGetItem TensorListReserve
    TensorListSetItem TensorListStack While
    """.split()
)

INTEGER_MODES = ("int8", "int16x8")


@dataclass(frozen=True)
class Settings:
    """What the converter is asked for.

    Attributes:
        quantization: None, "float16", "dynamic", "int8" or "int16x8".
        io_dtype: The type of float inputs and outputs in the file.
        sparse: Whether weights with many zeros are stored as sparse tensors.
        batch_size: Samples that the file takes at once.
        trained_ranges: Whether the graph carries fake quantization, so that int8 needs
            no data.
        float_layers: What is marked in the graph to stay float, in words.
        int16_layers: The same for activations of 16 bits in a file of 8.
    """

    quantization: str | None = None
    io_dtype: str = "float32"
    sparse: bool = False
    batch_size: int = 1
    trained_ranges: bool = False
    float_layers: Sequence[str] = ()
    int16_layers: Sequence[str] = ()


def is_risky(operations: Set[str], settings: Settings) -> bool:
    """Whether the converter may crash on a graph of these operations."""
    safe = _KNOWN if settings.quantization in INTEGER_MODES else _KNOWN | _LOOPS
    return not operations <= safe


def convert(
    folder: Path,
    settings: Settings,
    samples: Mapping[str, np.ndarray] | None,
    *,
    isolate: bool,
) -> bytes:
    """The TFLite file of the SavedModel in `folder`.

    Raises:
        ConversionError: If the converter refuses the model, or crashes where `isolate`
            is true.
    """
    if isolate:
        return _convert_isolated(folder, settings, samples)
    return _convert_here(folder, settings, samples)


def _convert_here(
    folder: Path, settings: Settings, samples: Mapping[str, np.ndarray] | None
) -> bytes:
    if settings.int16_layers:
        plain = replace(settings, int16_layers=())
        wide = replace(plain, quantization="int16x8", io_dtype="float32")
        narrow = _convert_here(folder, plain, samples)
        wide_file = _convert_here(folder, wide, samples)
        return _int16_islands.with_int16(narrow, wide_file, settings.int16_layers)
    converter = _converter(folder, settings, samples)
    try:
        with warnings.catch_warnings():
            # About ranges of inputs "expected, but not specified", which it then finds.
            warnings.simplefilter("ignore")
            if settings.float_layers:
                return _float_islands.convert(converter, settings.float_layers)
            return converter.convert()
    except ConversionError:
        raise
    except Exception as error:
        raise ConversionError(_refused(str(error))) from error


def _converter(
    folder: Path, settings: Settings, samples: Mapping[str, np.ndarray] | None
) -> tf.lite.TFLiteConverter:
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(folder), signature_keys=["serving_default"]
    )
    mode, kinds = settings.quantization, tf.lite.OpsSet
    optimizations = [] if mode is None else [tf.lite.Optimize.DEFAULT]
    if settings.sparse:
        optimizations.append(tf.lite.Optimize.EXPERIMENTAL_SPARSITY)
    converter.optimizations = optimizations
    if mode == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if mode in INTEGER_MODES and samples is not None:
        integers = (
            kinds.TFLITE_BUILTINS_INT8
            if mode == "int8"
            else kinds.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        )
        # An operation without an integer kernel stays float instead of failing.
        converter.target_spec.supported_ops = [integers, kinds.TFLITE_BUILTINS]
        converter.representative_dataset = _batches(samples, settings.batch_size)
    io_dtype = tf.as_dtype(settings.io_dtype)
    converter.inference_input_type = io_dtype
    converter.inference_output_type = io_dtype
    return converter


def _batches(
    samples: Mapping[str, np.ndarray], batch_size: int
) -> Callable[[], Iterator[dict[str, np.ndarray]]]:
    count = len(next(iter(samples.values())))

    def representative_dataset() -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, count, batch_size):
            # The last batch begins again with the first samples.
            chosen = np.arange(start, start + batch_size) % count
            yield {name: values[chosen] for name, values in samples.items()}

    return representative_dataset


def _convert_isolated(
    folder: Path, settings: Settings, samples: Mapping[str, np.ndarray] | None
) -> bytes:
    with tempfile.TemporaryDirectory(prefix="kopt-") as scratch:
        work = Path(scratch)
        order = {"folder": str(folder), "settings": asdict(settings)}
        (work / "order.json").write_text(json.dumps(order))
        if samples is not None:
            np.savez(work / "samples.npz", allow_pickle=False, **samples)
        # The same packages as here, wherever they come from; no graphics card, whose
        # memory this process holds.
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "CUDA_VISIBLE_DEVICES": "-1",
            "KERAS_BACKEND": "tensorflow",
            "TF_CPP_MIN_LOG_LEVEL": "2",
        }
        program = f"from {__name__} import serve_order; serve_order({str(work)!r})"
        ended = subprocess.run(
            [sys.executable, "-P", "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
        )
        if (work / "refusal.txt").exists():
            raise ConversionError((work / "refusal.txt").read_text())
        if ended.returncode or not (work / "file.tflite").exists():
            raise ConversionError(_crashed(ended.returncode, ended.stderr))
        return (work / "file.tflite").read_bytes()


def serve_order(scratch: str) -> None:
    """What the second process does: convert, run the file once, hand it over."""
    work = Path(scratch)
    order = json.loads((work / "order.json").read_text())
    samples = None
    if (work / "samples.npz").exists():
        with np.load(work / "samples.npz") as stored:
            samples = dict(stored)
    try:
        settings = Settings(**order["settings"])
        content = _convert_here(Path(order["folder"]), settings, samples)
    except ConversionError as error:
        (work / "refusal.txt").write_text(str(error))
        return
    draft = work / "draft.tflite"
    draft.write_bytes(content)
    # A file that only raises is handed over: the caller sees the same and decides.
    with contextlib.suppress(ConversionError):
        Interpreter(draft).run_zeros()
    draft.rename(work / "file.tflite")


def _refused(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    reason = next(
        (line for line in lines if "error:" in line), lines[0] if lines else ""
    )
    if not reason:
        return (
            "TensorFlow's TFLite converter refused the model and gave no reason. Try "
            "quantization=None to see whether the model converts at all; then "
            "isolate=True, whose error has the converter's last words, other "
            "`representative_data`, and parts of the model on their own to find the "
            "layer."
        )
    return (
        f"TensorFlow's TFLite converter refused the model: {reason[:600]}\n"
        "If one operation is named, replace the layer that uses it by one that TFLite "
        "has, or export this part of the model on its own."
    )


def _crashed(returncode: int, output: str) -> str:
    how = f"exit code {returncode}"
    if returncode < 0:
        how = f"signal {signal.Signals(-returncode).name}"
    last = "\n".join(output.strip().splitlines()[-3:])
    return (
        "TensorFlow's TFLite converter, or the first run of its file, crashed "
        f"({how}) in a process of its own; nothing was written. Loops are the usual "
        "cause: the converter cannot quantize them to integers. Use a recurrent layer "
        "of Keras, which is unrolled for that, or quantization='float16', or None. Its "
        f"last words:\n{last}"
    )
