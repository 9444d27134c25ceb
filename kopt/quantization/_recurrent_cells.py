"""The cells of recurrent layers, step by step on grids.

A cell is called once a step, in a loop in training and unrolled in an export, and all
steps share its ranges. Each matrix product, sum and product has a range of its own:
what is added up lies on different grids.

What only a saturating function reads (the sums in front of the gates; the carry of an
LSTM, which counts up as long as the text goes on) is cut off where the function no
longer changes. Otherwise a few large values would leave no bits for those near zero.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kopt.quantization._activations import of_function
from kopt.quantization.ranges import AtMost
from kopt.quantization.rule import FixedRange, float_class_of, rule_for

_Ranges = dict[str, FixedRange | AtMost | None]

# Beyond these the functions are within a thousandth of their limits: a quarter of a
# step of the grid that the runtime gives to what they return.
_SATURATED = {keras.activations.sigmoid: 8.0, keras.activations.tanh: 4.0}


def obstacle(cell: Any, inputs: int) -> str:
    """Why a cell cannot be computed here, or nothing."""
    for name in ("activation", "recurrent_activation"):
        found = of_function(getattr(cell, name, None))
        if found.kind == "float" or found.form is not None:
            return f"its {name} has no integer form"
    return ""


def layer_obstacle(layer: Any, inputs: int) -> str:
    """Why a recurrent layer stays float: one of its cells does."""
    for cell in cells_of(layer):
        rule = rule_for(cell)
        if rule is None:
            return f"its {float_class_of(cell).__name__} has no rule"
        if rule.obstacle and (reason := rule.obstacle(cell, inputs)):
            return reason
    return ""


def cells_of(layer: Any) -> list[Any]:
    """The cells of a recurrent layer, those of a stack each by itself."""
    cell = layer.cell
    is_stack = isinstance(cell, keras.layers.StackedRNNCells)
    return list(cell.cells) if is_stack else [cell]


def loop(
    layer: Any,
    sequences: Any,
    initial_state: Any = None,
    mask: Any = None,
    training: bool = False,
) -> Any:
    """The layer's own loop over a cell that rounds what it computes.

    A state that is kept from call to call comes from a variable of floats: rounded
    where it is read, the first step is one of integers as all others are.
    """
    options: dict[str, Any] = {"mask": mask, "training": training}
    if initial_state is None and layer.stateful and not training:
        kept = keras.tree.map_structure(ops.convert_to_tensor, layer.states)
        initial_state = _on_grids(layer, kept)
    if initial_state is not None:
        options["initial_state"] = initial_state
    return layer.float_class.call(layer, sequences, **options)


def _on_grids(layer: Any, states: Any) -> Any:
    """The states of the cells on the grids that the cells leave them on."""
    cells = cells_of(layer)
    if isinstance(layer.cell, keras.layers.StackedRNNCells):
        return [_of_cell(*pair) for pair in zip(cells, states, strict=True)]
    return _of_cell(cells[0], states)


def _of_cell(cell: Any, states: Any) -> Any:
    if not isinstance(states, (list, tuple)):
        return cell.quantizer.rounded("state", states)
    # An LSTM keeps its carry beside its state.
    roles = ("state", "carry")[: len(states)]
    pairs = zip(roles, states, strict=True)
    return [cell.quantizer.rounded(role, one) for role, one in pairs]


def both_obstacle(layer: Any, inputs: int) -> str:
    """Why a `Bidirectional` stays float: one of its layers does."""
    for one in (layer.forward_layer, layer.backward_layer):
        if not isinstance(one, keras.layers.RNN):
            return f"its {float_class_of(one).__name__} has no rule"
        if reason := layer_obstacle(one, inputs):
            return reason
    return ""


def both_ranges(layer: Any, inputs: int) -> _Ranges:
    """The ranges of a `Bidirectional` beyond those of its cells."""
    if layer.merge_mode is None:
        return {}
    halved: _Ranges = {"sum": None} if layer.merge_mode == "ave" else {}
    return halved | {"merged": None}


def both(layer: Any, *args: Any, **kwargs: Any) -> Any:
    """The two directions of a `Bidirectional`, put together on a grid of their own."""
    mode, rounded = layer.merge_mode, layer.quantizer.rounded
    if mode == "ave":
        # Its sum is an operation of its own, which needs a range.
        layer.merge_mode = "sum"
    try:
        results = layer.float_class.call(layer, *args, **kwargs)
    finally:
        layer.merge_mode = mode
    if mode is None:
        return results
    merged, *states = results if layer.return_state else [results]
    if mode == "ave":
        merged = 0.5 * rounded("sum", merged)
    merged = rounded("merged", merged)
    return (merged, *states) if layer.return_state else merged


def simple_ranges(cell: Any, inputs: int) -> _Ranges:
    """The ranges inside of a `SimpleRNNCell`."""
    return {
        "from_input": None,
        "from_state": None,
        "sum": _at_most(cell.activation),
        "state": _fixed(cell),
    }


def simple(cell: Any, sequence: Any, states: Any, training: bool = False) -> Any:
    """A step of a `SimpleRNN`."""
    rounded = cell.quantizer.rounded
    inputs, state = _dropped(cell, sequence, _first(states), training)
    from_input = rounded("from_input", _product(inputs, cell.kernel, cell.bias))
    from_state = rounded("from_state", ops.matmul(state, cell.recurrent_kernel))
    total = rounded("sum", from_input + from_state)
    output = rounded("state", cell.activation(total))
    return output, _like(states, output)


def lstm_ranges(cell: Any, inputs: int) -> _Ranges:
    """The ranges inside of an `LSTMCell`."""
    return {
        "from_input": None,
        "from_state": None,
        "sum": _at_most(cell.activation, cell.recurrent_activation),
        "gate": _fixed(cell, "recurrent_activation"),
        "candidate": _fixed(cell),
        "kept": _at_most(cell.activation),
        "added": None,
        "carry": _at_most(cell.activation),
        "squashed": _fixed(cell),
        "state": None,
    }


def lstm(cell: Any, inputs: Any, states: Any, training: bool = False) -> Any:
    """A step of an `LSTM`."""
    state, carry = states
    inputs, state = _dropped(cell, inputs, state, training)
    from_input = _product(inputs, cell.kernel, cell.bias)
    from_state = ops.matmul(state, cell.recurrent_kernel)
    return lstm_gates(cell, from_input, from_state, carry)


def lstm_gates(cell: Any, from_input: Any, from_state: Any, carry: Any) -> Any:
    """What an LSTM makes of its products, in which four gates stand side by side."""
    rounded = cell.quantizer.rounded
    from_input = rounded("from_input", from_input)
    total = rounded("sum", from_input + rounded("from_state", from_state))
    # Slices: the converter leaves a split in float behind a state of zeros.
    units = total.shape[-1] // 4
    update, forget, own, output = (
        total[..., at * units : (at + 1) * units] for at in range(4)
    )
    update, forget, output = (
        rounded("gate", cell.recurrent_activation(one))
        for one in (update, forget, output)
    )
    candidate = rounded("candidate", cell.activation(own))
    kept = rounded("kept", forget * carry)
    carry = rounded("carry", kept + rounded("added", update * candidate))
    squashed = rounded("squashed", cell.activation(carry))
    state = rounded("state", output * squashed)
    return state, [state, carry]


def gru_ranges(cell: Any, inputs: int) -> _Ranges:
    """The ranges inside of a `GRUCell`."""
    reset_before: _Ranges = {} if cell.reset_after else {"reset_state": None}
    return reset_before | {
        "from_input": None,
        "from_state": None,
        "sum": _at_most(cell.recurrent_activation),
        "gate": _fixed(cell, "recurrent_activation"),
        "candidate_from_state": None,
        "candidate_sum": _at_most(cell.activation),
        "candidate": _fixed(cell),
        "difference": None,
        "kept": None,
        "state": None,
    }


def gru(cell: Any, inputs: Any, states: Any, training: bool = False) -> Any:
    """A step of a `GRU`."""
    rounded = cell.quantizer.rounded
    before = _first(states)
    inputs, state = _dropped(cell, inputs, before, training)
    input_bias, state_bias = _gru_biases(cell)
    units = cell.units
    from_input = rounded("from_input", _product(inputs, cell.kernel, input_bias))
    gates, candidate = from_input[:, : 2 * units], from_input[:, 2 * units :]
    if cell.reset_after:
        product = _product(state, cell.recurrent_kernel, state_bias)
        from_state = rounded("from_state", product)
        reset, update = _gru_gates(cell, gates, from_state[:, : 2 * units])
        own = rounded("candidate_from_state", reset * from_state[:, 2 * units :])
    else:
        kernel = cell.recurrent_kernel
        product = ops.matmul(state, kernel[:, : 2 * units])
        reset, update = _gru_gates(cell, gates, rounded("from_state", product))
        kept = rounded("reset_state", reset * state)
        own = ops.matmul(kept, kernel[:, 2 * units :])
        own = rounded("candidate_from_state", own)
    total = rounded("candidate_sum", candidate + own)
    candidate = rounded("candidate", cell.activation(total))
    # z h + (1 - z) c as c + z (h - c): the runtime has no 1 - z.
    difference = rounded("difference", before - candidate)
    output = rounded("state", candidate + rounded("kept", update * difference))
    return output, _like(states, output)


def _gru_gates(cell: Any, from_input: Any, from_state: Any) -> tuple[Any, Any]:
    rounded = cell.quantizer.rounded
    total = rounded("sum", from_input + from_state)
    gates = rounded("gate", cell.recurrent_activation(total))
    return gates[:, cell.units :], gates[:, : cell.units]


def _gru_biases(cell: Any) -> tuple[Any, Any]:
    if not cell.use_bias:
        return None, None
    bias = ops.convert_to_tensor(cell.bias)
    return (bias[0], bias[1]) if cell.reset_after else (bias, None)


def _product(inputs: Any, kernel: Any, bias: Any) -> Any:
    product = ops.matmul(inputs, kernel)
    return product if bias is None else product + bias


def _dropped(cell: Any, inputs: Any, state: Any, training: bool) -> tuple[Any, Any]:
    """Inputs and state with the cell's dropout, one mask for all gates."""
    if not training:
        return inputs, state
    for_inputs = cell.get_dropout_mask(inputs)
    for_state = cell.get_recurrent_dropout_mask(state)
    if for_inputs is not None:
        inputs = inputs * _one(for_inputs)
    if for_state is not None:
        state = state * _one(for_state)
    return inputs, state


def _one(mask: Any) -> Any:
    return mask[0] if isinstance(mask, (list, tuple)) else mask


def _first(states: Any) -> Any:
    return states[0] if isinstance(states, (list, tuple)) else states


def _like(states: Any, output: Any) -> Any:
    return [output] if isinstance(states, (list, tuple)) else output


def _fixed(cell: Any, name: str = "activation") -> FixedRange | None:
    return of_function(getattr(cell, name)).fixed_range


def _at_most(*functions: Any) -> AtMost | None:
    """How far values matter that only these functions read."""
    ends = [_SATURATED.get(function) for function in functions]
    known = [end for end in ends if end is not None]
    return AtMost(-max(known), max(known)) if len(known) == len(ends) else None
