"""Activations of a float model in parts, for a file of 8-bit integers.

The runtime has one operation each for hard-silu and PReLU in int8, which the XNNPACK
delegate takes in float alone (`VisitUnaryNode` and `VisitBinaryNode` of its source,
LiteRT at commit f674577): a reference kernel computes them number by number. What they
are made of, products and sums with a ReLU at the end, the delegate takes. On x86 with
AVX2 (LiteRT 2.3) hard-silu takes a twentieth of the time in parts.

On ARM the runtime's own HARD_SWISH is written for NEON (`optimized_ops.h`): one pass of
about 15 instructions for 8 numbers, where the parts are three passes of XNNPACK's NEON
kernels. But as on x86 it splits the graph that the delegate computes as a whole. PReLU
is a reference kernel on every processor.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from kopt._keras.layer_tree import with_nested_layers

_HARD_SILU = (keras.activations.hard_silu, ops.hard_silu)

# Below, the factor relu6(x + 3) / 6 is 1/2 to within half a step of 8 bits. Delegates
# do not take a sum whose terms differ as much.
_SMALL = 3 / 255 / 2


@contextlib.contextmanager
def delegate_forms(model: keras.Model, run: Callable[[], Any]) -> Iterator[None]:
    """Within the block, hard-silu and PReLU of a model compute in parts.

    Args:
        model: The model.
        run: Calls the model on a few samples, which show how large values are.
    """
    changed: list[tuple[Any, str, Any]] = []
    try:
        for owner, name, form in _forms(model):
            changed.append((owner, name, vars(owner).get(name)))
            # Past Keras's bookkeeping of attributes: this is no part of the layer.
            vars(owner)[name] = form
        if changed:
            run()
        yield
    finally:
        for owner, name, own in changed:
            del vars(owner)[name]
            if own is not None:
                vars(owner)[name] = own


def _forms(model: keras.Model) -> Iterator[tuple[Any, str, Callable[[Any], Any]]]:
    """What to replace: the owner of an attribute, its name, and the other form."""
    layers = with_nested_layers(model)
    for layer in layers:
        if vars(layer).get("activation") in _HARD_SILU:
            yield layer, "activation", _HardSilu()
        elif _is_prelu(layer) and "call" not in vars(layer):
            yield layer, "call", functools.partial(_prelu, layer)
        # What stands in a functional model without a layer, as `ops.hard_silu(x)`.
        for operation in getattr(layer, "operations", ()):
            if type(operation).__name__ == "HardSilu":
                yield operation, "call", _HardSilu()


class _HardSilu:
    """`x * relu6(x + 3) / 6`, in a form that the converter does not take for one.

    Called with values, it notes how large they are; called in a trace, it uses that.
    """

    def __init__(self) -> None:
        self.largest: float | None = None

    def __call__(self, x: Any) -> Any:
        if hasattr(x, "numpy"):
            self.largest = max(self.largest or 0.0, float(np.max(np.abs(x))))
        if self.largest is not None and self.largest < _SMALL:
            return x * 0.5
        return x * (ops.relu6(x - (-3.0)) * (1.0 / 6.0))


def _is_prelu(layer: keras.Layer) -> bool:
    """Whether a layer is a PReLU whose negative side is nowhere steeper than 1."""
    plain = isinstance(layer, keras.layers.PReLU) and (
        type(layer).call is keras.layers.PReLU.call
    )
    return plain and bool(np.max(ops.convert_to_numpy(layer.alpha)) <= 1.0)


def _prelu(layer: Any, inputs: Any) -> Any:
    # Where x is negative, the ReLU adds (1 - alpha) |x|; elsewhere nothing.
    return inputs + ops.relu(inputs * (layer.alpha - 1.0))
