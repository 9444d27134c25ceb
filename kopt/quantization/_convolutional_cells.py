"""The cell of a `ConvLSTM`, step by step on grids: an LSTM whose products convolve."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from kopt.quantization import _recurrent_cells
from kopt.quantization.ranges import AtMost
from kopt.quantization.rule import FixedRange

_GATES = 4


def obstacle(cell: Any, inputs: int) -> str:
    """Why a cell cannot be computed here, or nothing."""
    if cell.rank > 2:
        return "the runtime has no integer convolution over three axes"
    if cell.data_format != "channels_last":
        return "its channels are not on the last axis"
    return _recurrent_cells.obstacle(cell, inputs)


def inner(cell: Any, inputs: int) -> dict[str, FixedRange | AtMost | None]:
    """The ranges inside of a cell."""
    return _recurrent_cells.lstm_ranges(cell, inputs)


def step(cell: Any, inputs: Any, states: Any, training: bool = False) -> Any:
    """A step of a `ConvLSTM`."""
    state, carry = states
    from_input = _convolved(
        inputs,
        cell.kernel,
        _masks(cell.get_dropout_mask, inputs, cell.dropout, training),
        strides=cell.strides,
        padding=cell.padding,
        dilation_rate=cell.dilation_rate,
    )
    if cell.use_bias:
        from_input = from_input + ops.convert_to_tensor(cell.bias)
    from_state = _convolved(
        state,
        cell.recurrent_kernel,
        _masks(
            cell.get_recurrent_dropout_mask, state, cell.recurrent_dropout, training
        ),
        padding="same",
    )
    return _recurrent_cells.lstm_gates(cell, from_input, from_state, carry)


def _masks(made: Callable[[Any], Any], values: Any, rate: float, training: bool) -> Any:
    """What the cell drops of its inputs or its state, one mask for each gate."""
    return made(values) if training and 0.0 < rate < 1.0 else None


def _convolved(values: Any, kernel: Any, masks: Any, **options: Any) -> Any:
    """The parts of all gates side by side."""
    options["data_format"] = "channels_last"
    if masks is None:
        return ops.conv(values, kernel, **options)
    kernels = ops.split(ops.convert_to_tensor(kernel), _GATES, axis=-1)
    parts = [
        ops.conv(values * mask, one, **options)
        for mask, one in zip(masks, kernels, strict=True)
    ]
    return ops.concatenate(parts, axis=-1)
