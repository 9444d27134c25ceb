"""What goes into a join, each tensor by itself, beside the one range that it gets."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from kopt._part_scales import BITS, bits_left, has_own_bits
from kopt.quantization._layer_quantizer import OUTPUT, is_join

Branches = Mapping[int, dict[int, tuple[float, float]]]


@contextmanager
def watched(layers: Sequence[Any]) -> Iterator[Branches]:
    """Inside, the lowest and the highest value of all that goes into joins is noted.

    Args:
        layers: Quantized layers.

    Yields:
        For each layer that joins tensors, by its identity, the lowest and the highest
        value of each input, by its position.
    """
    joins = [one for one in layers if OUTPUT in one.quantizer.ranges and is_join(one)]
    found: dict[int, dict[int, tuple[float, float]]] = {id(one): {} for one in joins}
    try:
        for one in joins:
            one.quantizer.branches = _noting(found[id(one)])
        yield found
    finally:
        for one in joins:
            one.quantizer.branches = None


def _noting(found: dict[int, tuple[float, float]]) -> Any:
    def note(inputs: Iterable[Any]) -> None:
        for position, tensor in enumerate(inputs):
            values = np.asarray(tensor)
            if values.dtype.kind == "f" and values.size:
                low, high = found.get(position, (np.inf, -np.inf))
                low, high = min(low, values.min()), max(high, values.max())
                found[position] = float(low), float(high)

    return note


def starved(layer: Any, found: Branches) -> str:
    """Which inputs of a join its range leaves too few steps, in words; empty if none.

    Args:
        layer: A quantized layer.
        found: What was seen while it was `watched`.
    """
    one = layer.quantizer.ranges.get(OUTPUT)
    if id(layer) not in found or not one.calibrated:
        return ""
    step, few = one.grid().scale, []
    for position, (low, high) in found[id(layer)].items():
        span, extent = np.array(high - low), np.array(max(high, 0.0) - min(low, 0.0))
        bits = float(bits_left(span, step))
        if span > 0.0 and bits < BITS and has_own_bits(span, extent):
            few.append(f"{bits:.1f} bits for input {position}, [{low:.3g}, {high:.3g}]")
    return f"its one range leaves {', '.join(few)}" if few else ""


def warn_of_starved(layers: Iterable[Any], found: Branches) -> None:
    """Say once which joins leave one of their inputs too few steps."""
    said = {one.name: starved(one, found) for one in layers}
    few = [f"{name!r}: {text}" for name, text in said.items() if text]
    if few:
        more = f"; and {len(few) - 3} more" if len(few) > 3 else ""
        warnings.warn(
            "Tensors of very different size are joined, which puts them on one range. "
            f"{'; '.join(few[:3])}{more}. Bring them to one scale in the model, or "
            "keep the join and the layers around it float: "
            "`kopt.quantization.sensitivity(model, data).suggestion()` names them.",
            stacklevel=4,
        )
