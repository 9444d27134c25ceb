"""The one table of kernel axes: what each axis of a layer's kernel numbers.

A kernel is written as one letter for each axis, from the last one back; axes before the
letters are the window of a convolution:

    i   inputs, which an output sums over
    o   outputs
    c   channels that stay apart: each is an input and makes outputs of its own
    r   rows of a table, one of which is looked up

`4o` is an axis with the outputs of four gates side by side, as in a recurrent layer.
The kernel (height, width, inputs / groups, outputs) of `Conv2D` is `"io"`.

A layer of one's own says it in a class attribute, which subclasses inherit:

    class Project(keras.Layer):
        kernel_axes = {"weight": "oi"}  # of shape (outputs, inputs)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from keras import layers

from kopt._keras.conv_lstm_cell import ConvLSTMCell
from kopt._keras.layer_of_variable import layers_of


class KernelAxes(NamedTuple):
    """Axes of a kernel, counted from the front, by what they number.

    Args:
        inputs: Inputs, which an output sums over.
        outputs: Outputs.
        channels: Channels that stay apart from each other.
        rows: Rows of a table, one of which is looked up.
        window: Places of a convolution's window, which an output sums over too.
        gates: How many gates lie side by side on the axis of the outputs.
        is_known: Whether a layer says so; otherwise it is what most kernels have.
    """

    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    channels: tuple[int, ...] = ()
    rows: tuple[int, ...] = ()
    window: tuple[int, ...] = ()
    gates: int = 1
    is_known: bool = True

    @property
    def rank(self) -> int:
        """The rank of the kernel."""
        kinds = (self.inputs, self.outputs, self.channels, self.rows, self.window)
        return sum(map(len, kinds))

    @property
    def filters(self) -> tuple[int, ...]:
        """The axes that number what the layer puts out, in the order of the kernel."""
        return tuple(sorted((*self.channels, *self.outputs)))

    @property
    def incoming(self) -> tuple[int, ...]:
        """The axes that number what the layer takes in, in the order of the kernel."""
        return tuple(sorted((*self.inputs, *self.channels, *self.rows)))

    @property
    def units(self) -> tuple[int, ...]:
        """The axes that number units: an output with all that feeds it.

        In a table a unit is a row: what one token has of its own.
        """
        return self.rows or self.filters

    @property
    def within_unit(self) -> tuple[int, ...]:
        """The axes that one unit spans."""
        return tuple(axis for axis in range(self.rank) if axis not in self.units)


_Rows = Mapping[str, str] | Callable[[Any], Mapping[str, str]]

_LAST = {"kernel": "io"}
_TRANSPOSED = {"kernel": "oi"}
_DEPTHWISE = {"kernel": "co"}
_SEPARABLE = {"depthwise_kernel": "co", "pointwise_kernel": "io"}
_ROWS = {
    "embeddings": "ro",
    "lora_embeddings_a": "ro",
    "lora_embeddings_b": "io",
}
_ATTENTION = {
    "query_dense.kernel": "ioo",
    "key_dense.kernel": "ioo",
    "value_dense.kernel": "ioo",
    "output_dense.kernel": "iio",
}


def _gates(number: int) -> dict[str, str]:
    return {"kernel": f"i{number}o", "recurrent_kernel": f"i{number}o"}


def _einsum(layer: layers.EinsumDense) -> dict[str, str]:
    """One letter for each of the kernel's, by where it stands in the equation."""
    data, kernel, output = re.split(",|->", layer.equation.replace(" ", ""))
    kinds = {(True, True): "c", (False, True): "o"}
    letters = "".join(kinds.get((axis in data, axis in output), "i") for axis in kernel)
    # LoRA's kernels are factors of a matrix whose columns are the kernel's last axis.
    last = "oi" if letters.endswith("i") else "io"
    return {"kernel": letters, "lora_kernel_a": letters, "lora_kernel_b": last}


_TABLE: dict[type, _Rows] = {
    layers.Dense: _LAST,
    layers.EinsumDense: _einsum,
    layers.Conv1D: _LAST,
    layers.Conv2D: _LAST,
    layers.Conv3D: _LAST,
    layers.Conv1DTranspose: _TRANSPOSED,
    layers.Conv2DTranspose: _TRANSPOSED,
    layers.Conv3DTranspose: _TRANSPOSED,
    layers.DepthwiseConv1D: _DEPTHWISE,
    layers.DepthwiseConv2D: _DEPTHWISE,
    layers.SeparableConv1D: _SEPARABLE,
    layers.SeparableConv2D: _SEPARABLE,
    layers.STFTSpectrogram: {"real_kernel": "io", "imag_kernel": "io"},
    layers.Embedding: _ROWS,
    layers.ReversibleEmbedding: {**_ROWS, "reverse_embeddings": "io"},
    # A recurrent layer's kernels are its cell's.
    layers.SimpleRNN: _gates(1),
    layers.SimpleRNNCell: _gates(1),
    layers.GRU: _gates(3),
    layers.GRUCell: _gates(3),
    layers.LSTM: _gates(4),
    layers.LSTMCell: _gates(4),
    layers.ConvLSTM1D: _gates(4),
    layers.ConvLSTM2D: _gates(4),
    layers.ConvLSTM3D: _gates(4),
    ConvLSTMCell: _gates(4),
    # The projections are `EinsumDense` layers, whose equations say the same.
    layers.MultiHeadAttention: _ATTENTION,
    layers.GroupQueryAttention: _ATTENTION,
}

# Weights of any layer that are no kernels, whatever their rank: a bias for each head or
# gate, scales over several axes.
_VECTORS = re.compile(r"(.*_)?(bias|gamma|beta|alpha|scale)")
# What the weights of layers outside of the table tell by their names.
_BY_NAME = {"depthwise_kernel": "co", "embeddings": "ro"}

# Gates are split off one axis, so it must be the only one that numbers outputs.
_LETTERS = re.compile(r"[wicro]*|[wir]*[1-9]\d*o[wir]*")


def kernel_letters(layer: Any, name: str) -> str | None:
    """The letters of a kernel of a layer, or of a layer class, by its name."""
    kind = layer if isinstance(layer, type) else type(layer)
    for base in kind.__mro__:
        if "kernel_axes" in vars(base):
            return _checked(base).get(name)
        if base in _TABLE:
            rows = _TABLE[base]
            return (rows(layer) if callable(rows) else rows).get(name)
    return None


def kernel_axes(layer: Any, name: str, rank: int) -> KernelAxes | None:
    """What the axes of a weight number, or `None` if it is no kernel.

    A kernel that nothing is known of has its outputs on the last axis, as most do, and
    its inputs on the one before.

    Args:
        layer: The layer that the weight belongs to, or `None` if that is not known.
        name: The weight's own name, such as `"kernel"`.
        rank: Its rank.

    Raises:
        ValueError: If the class of the layer has a `kernel_axes` of another form.
    """
    if rank < 2:
        return None
    letters = None if layer is None else kernel_letters(layer, name)
    if letters is not None:
        kinds = re.sub(r"\d", "", letters).rjust(rank, "w")
        if len(kinds) == rank:
            return _axes(kinds, int(re.sub(r"\D", "", letters) or 1))
    if _VECTORS.fullmatch(name):
        return None
    if name in _BY_NAME:
        return _axes(_BY_NAME[name].rjust(rank, "w"))
    return default_axes(rank)


def default_axes(rank: int) -> KernelAxes:
    """The axes of a kernel that nothing is known of: outputs on the last one."""
    return _axes("io".rjust(rank, "w"))._replace(is_known=False)


def axes_of(variables: Sequence[Any]) -> list[KernelAxes | None]:
    """What the axes of each variable number, for code that has no layers at hand."""
    return [
        kernel_axes(layer, variable.name, len(variable.shape))
        for layer, variable in zip(layers_of(variables), variables, strict=True)
    ]


def channels_from_end(layer: Any, name: str) -> tuple[int, ...]:
    """The axes that number a kernel's outputs, -1 for the last one."""
    letters = kernel_letters(layer, name) or ""
    kinds = re.sub(r"\d", "", letters)
    return tuple(i - len(kinds) for i, kind in enumerate(kinds) if kind in "co")


def _axes(kinds: str, gates: int = 1) -> KernelAxes:
    places = {
        wanted: tuple(axis for axis, kind in enumerate(kinds) if kind == wanted)
        for wanted in "iocrw"
    }
    return KernelAxes(
        inputs=places["i"],
        outputs=places["o"],
        channels=places["c"],
        rows=places["r"],
        window=places["w"],
        gates=gates,
    )


def _checked(kind: type) -> Mapping[str, str]:
    """What a layer class of a user's says of its kernels."""
    found: Any = vars(kind)["kernel_axes"]
    if isinstance(found, Mapping) and all(
        isinstance(letters, str) and _LETTERS.fullmatch(letters)
        for letters in found.values()
    ):
        return found
    raise ValueError(
        f"`{kind.__name__}.kernel_axes` must be a dict from names of weights to one "
        "letter an axis: 'i' for inputs, 'o' for outputs, 'c' for channels that stay "
        "apart, 'r' for rows of a table, 'w' for a window; '4o' for the outputs of "
        f"four gates. Received: {found!r}. Write, for a weight of shape (inputs, "
        "outputs), kernel_axes = {'kernel': 'io'}."
    )
