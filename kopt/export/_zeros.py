"""The zeros in a file, and what they would save in other forms of it."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kopt.export._file_contents import FileContents, Tensor
from kopt.export._file_weights import units

# From `dense_to_sparse_pass.cc` of TensorFlow Lite: the operations whose weights it
# stores as sparse tensors, the share of zeros from which it does, the width of the
# blocks that it looks for in fully connected ones, and how much of the zeros have to
# lie in these.
_SPARSE_OPERATIONS = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D")
_LEAST_ZEROS = 0.3
_BLOCKS = {"float32": 4, "int8": 16}
_IN_BLOCKS = 0.9

# Below, nobody has pruned it, and gzip does not need to be tried.
_WORTH_NOTING = 0.05


@dataclass(frozen=True)
class Zeros:
    """The zeros in the weights of a file.

    Attributes:
        weights: How many numbers its kernels and embeddings hold.
        zeros: How many of these are zero, or stand for it.
        gzip_size_bytes: The file's size after gzip; None with hardly any zeros.
        sparse_size_bytes: About what it would have with `sparse=True`; None for a file
            that is sparse, or would not be smaller.
    """

    weights: int
    zeros: int
    gzip_size_bytes: int | None = None
    sparse_size_bytes: int | None = None

    def __str__(self) -> str:
        share = self.zeros / self.weights if self.weights else 0.0
        parts = [f"{self.zeros:,} of {self.weights:,} ({share:.1%})"]
        if self.gzip_size_bytes is not None:
            parts.append(f"{self.gzip_size_bytes / 1024:,.1f} KB after gzip")
        if self.sparse_size_bytes is not None:
            size = f"{self.sparse_size_bytes / 1024:,.1f} KB"
            parts.append(f"about {size} with sparse=True")
        return "; ".join(parts)


def zeros_of(contents: FileContents, content: bytes) -> Zeros:
    """Count the zeros of a TFLite file.

    Args:
        contents: What is in it.
        content: The file.
    """
    kernels = [
        tensor
        for tensor in contents.tensors
        if tensor.data is not None
        and tensor.data.ndim >= 2
        and (tensor.is_float or tensor.is_quantized)
    ]
    weights = sum(int(np.prod(kernel.shape)) for kernel in kernels)
    zeros = sum(kernel.zeros for kernel in kernels)
    if zeros < _WORTH_NOTING * weights:
        return Zeros(weights, zeros)
    is_sparse = any(tensor.sparse for tensor in kernels)
    sparse = None if is_sparse else _sparse_size(contents, len(content))
    worth = sparse is not None and sparse < len(content)
    zipped = len(gzip.compress(content, mtime=0))
    return Zeros(weights, zeros, zipped, sparse if worth else None)


def together(parts: Sequence[Zeros | None]) -> Zeros:
    """The zeros of all signatures of a file; weights that they share count in each."""
    known = [part for part in parts if part is not None]
    zipped = [one.gzip_size_bytes for one in known if one.gzip_size_bytes is not None]
    return Zeros(
        sum(one.weights for one in known),
        sum(one.zeros for one in known),
        zipped[0] if zipped else None,
    )


def _sparse_size(contents: FileContents, size: int) -> int:
    kernels = {
        unit.kernel.index: _saved(unit.operation, unit.kernel)
        for unit in units(contents)
        if unit.operation in _SPARSE_OPERATIONS
    }
    return size - sum(kernels.values())


def _saved(operation: str, kernel: Tensor) -> int:
    """About how many bytes a kernel would lose; negative where it would gain."""
    if kernel.data is None or kernel.dtype not in _BLOCKS:
        return 0
    values = kernel.data
    kept = (kernel.dequantize(values) if kernel.is_quantized else values) != 0
    if 1 - kept.mean() < _LEAST_ZEROS:
        return 0
    rows = kept.reshape(-1, kept.shape[-1])
    width = _BLOCKS[kernel.dtype]
    if operation == "FULLY_CONNECTED" and rows.shape[1] % width == 0:
        blocks = rows.reshape(len(rows), -1, width).any(axis=-1)
        if 1 - blocks.mean() > _IN_BLOCKS * (1 - rows.mean()):
            return _difference(kernel, blocks, width)
    return _difference(kernel, rows, 1)


def _difference(kernel: Tensor, kept: np.ndarray, width: int) -> int:
    assert kernel.data is not None
    # Values, the place of each in its row, and where each row begins and ends.
    values = int(kept.sum()) * width * kernel.data.itemsize
    places = int(kept.sum()) * _index_bytes(kept.shape[1] - 1)
    ends = (len(kept) + 1) * _index_bytes(int(kept.sum()))
    # Scales and zero points are stored a second time.
    scales = 12 * kernel.scales.size
    return kernel.data.nbytes - values - places - ends - scales


def _index_bytes(largest: int) -> int:
    return 1 if largest < 2**8 else 2 if largest < 2**16 else 4
