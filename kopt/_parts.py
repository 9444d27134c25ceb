"""Which parts of a tensor suffer from rounding: each place of its axes, each channel.

A mean over a whole tensor hides a part of it: scores from 0 to 1 that share the grid of
boxes in pixels are all one value, at a mean error of next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from kopt._part_scales import BITS, bits_left, has_own_bits, scales
from kopt._part_sums import PartSums, Sums

# What one part's mean error is, as a multiple of the median over all, when it stands
# out.
_OUTSTANDING = 8.0
# Share of the values of a part that are cut off at the end of a range.
_CUT_OFF = 0.05
# Fewer values do not show what a part goes through.
_FEWEST = 8

_ORDER = ("broken", "constant", "lost", "outstanding", "cut off", "coarse")


@dataclass(frozen=True)
class Part:
    """Places of one axis of a tensor, and what is wrong with them.

    Attributes:
        kind: "broken" (NaN or infinite), "constant" (one value where the model's
            varies), "lost" (the noise is as large as what varies), "outstanding" (a
            much larger error than elsewhere), "cut off" (beyond the range) or "coarse"
            (fewer than 3 bits left).
        axis: The axis, counted with that of the samples, which is 0; None for all of
            the tensor.
        places: Indices on that axis.
        rank: Number of axes of the tensor.
        fault: Whether the tensor is wrong because of it; else it is worth a look.
        detail: The number that says so, in words.
        bits: Bits that are left for what the part goes through; None if unknown.
        layer: Name of the layer that makes it; empty if unknown.
        ratio: How many times larger others on that axis are; None if that is not why.
    """

    kind: str
    axis: int | None
    places: tuple[int, ...]
    rank: int
    fault: bool
    detail: str
    bits: float | None = None
    layer: str = ""
    ratio: float | None = None

    def __str__(self) -> str:
        layer = f" (layer {self.layer!r})" if self.layer else ""
        return f"{self.where}{layer}: {self.detail}"

    @property
    def where(self) -> str:
        """The places in words."""
        if self.axis is None:
            return "all of it"
        last = self.axis == self.rank - 1
        word = "channel" if last else f"place on axis {self.axis}:"
        if len(self.places) > 1:
            word = "channels" if last else f"places on axis {self.axis}:"
        return f"{word} {_ranges(self.places)}"


@dataclass(frozen=True)
class Limits:
    """What a tensor's grid can hold, and how far it may be off.

    Attributes:
        step: Size of one integer step; None where values are floats.
        error: Largest mean error of a part, as a part of its mean absolute value; None
            where parts are not judged by their mean error.
        spans: From the lowest to the highest value that a part can have by what makes
            it, as a sigmoid's from 0 to 1, by axis (None for all) and place; None if
            not known.
        representative: Whether the values are like those that the grid was made for:
            of others it may well use a small part.
    """

    step: float | None = None
    error: float | None = None
    spans: Callable[[int | None, int], float | None] | None = None
    representative: bool = True


def judged(sums: PartSums, limits: Limits) -> tuple[Part, ...]:
    """The parts of a tensor that suffer, the worst first."""
    if sums.whole is None or not sums.whole.count[0]:
        return ()
    found = list(_all_of_it(sums, sums.whole, limits))
    for axis in sums.by_axis:
        found += _on_axis(sums, axis, limits)
    found.sort(key=lambda part: (not part.fault, _ORDER.index(part.kind)))
    return tuple(found)


def _all_of_it(sums: PartSums, whole: Sums, limits: Limits) -> Iterator[Part]:
    everything = Part("broken", None, (), sums.rank, True, "NaN or infinite")
    if whole.broken[0]:
        yield everything
    least = max(1.5 * (limits.step or 0.0), 1e-3 * whole.largest)
    for one in filter(None, (whole, *sums.by_axis.values(), sums.each)):
        still = bool((one.got_high == one.got_low).all())
        if still and sums.samples >= _FEWEST and one.span.max() > least:
            detail = (
                f"the same for every sample; the model's spans {one.span.max():.3g}"
            )
            yield replace(everything, kind="constant", detail=detail)
            return
    bits = _bits(None, whole, limits)
    helped = has_own_bits(whole.span, whole.extent)
    if bits is not None and bits[0] < BITS and helped[0]:
        ends = f"[{whole.low[0]:.3g}, {whole.high[0]:.3g}]"
        detail = f"{bits[0]:.1f} bits left for {ends} on a grid of more"
        found = replace(everything, kind="coarse", bits=float(bits[0]), detail=detail)
        yield replace(found, fault=limits.representative)


def _on_axis(sums: PartSums, axis: int, limits: Limits) -> Iterator[Part]:
    one = sums.by_axis[axis]
    if sums.whole is None or one.count.size < 2:
        return
    if one.broken.any():
        places = np.flatnonzero(one.broken)
        yield _part(sums, axis, places, "broken", True, "NaN or infinite")
    yield from _too_small(sums, axis, one, limits)
    yield from _far_off(sums, axis, one, limits)


def _too_small(sums: PartSums, axis: int, one: Sums, limits: Limits) -> Iterator[Part]:
    """Parts that are small beside others which share their grid."""
    found = scales(one, _bits(axis, one, limits))
    beside = found.beside_larger
    for kind, fault, chosen in (
        ("lost", True, found.lost & beside),
        ("coarse", limits.representative, found.coarse & beside),
        ("lost", False, found.lost & ~beside),
        ("coarse", False, found.coarse & ~beside),
    ):
        places = np.flatnonzero(chosen)
        if places.size:
            least = float(found.bits[places].min())
            detail = f"{least:.1f} bits left, {_share_of_noise(one, places)}"
            part = _part(sums, axis, places, kind, fault, detail)
            yield replace(part, bits=least, ratio=found.ratio if fault else None)


def _far_off(sums: PartSums, axis: int, one: Sums, limits: Limits) -> Iterator[Part]:
    """Parts whose error stands out, or whose values are cut off."""
    if limits.error is None or sums.whole is None:
        return
    whole = float(sums.whole.size[0] / sums.whole.count[0])
    count = np.maximum(one.count, 1)
    mean = one.error / count
    part_of_size = mean / np.maximum(np.maximum(one.size / count, whole), 1e-300)
    known = (one.count >= 4) & (one.largest_error > 1.01 * (limits.step or 0.0))
    much = known & (part_of_size > limits.error)
    some = known & (part_of_size > 0.4 * limits.error)
    usual = np.median(mean)
    enough = one.largest_error > 3 * (limits.step or 0.0)
    outstanding = much | (some & enough & (mean > _OUTSTANDING * usual))
    cut = one.outside / count
    cut_off = (cut > _CUT_OFF) & some
    for kind, chosen in (("cut off", cut_off), ("outstanding", outstanding & ~cut_off)):
        places = np.flatnonzero(chosen)
        if places.size:
            worst = places[np.argmax(part_of_size[places])]
            detail = f"mean error {mean[worst]:.3g}, elsewhere {usual:.3g}"
            if kind == "cut off":
                detail = f"{cut[worst]:.1%} of the values cut off, {detail}"
            yield _part(sums, axis, places, kind, True, detail)


def _part(
    sums: PartSums,
    axis: int,
    places: np.ndarray,
    kind: str,
    fault: bool,
    detail: str,
) -> Part:
    return Part(kind, axis, tuple(map(int, places)), sums.rank, fault, detail)


def _bits(axis: int | None, one: Sums, limits: Limits) -> np.ndarray | None:
    if limits.step is None:
        return None
    bits = bits_left(one.span, limits.step)
    if limits.spans is not None:
        natural = [limits.spans(axis, place) or 0.0 for place in range(len(bits))]
        bits = np.maximum(bits, np.log2(np.array(natural) / limits.step + 1.0))
    return bits


def _share_of_noise(one: Sums, places: np.ndarray) -> str:
    noise = np.sqrt(one.noise[places] / one.count[places])
    worst = np.argmax(noise / np.sqrt(one.variance[places]))
    deviation = float(np.sqrt(one.variance[places][worst]))
    return f"error {noise[worst]:.3g} where values vary by {deviation:.3g}"


def _ranges(places: tuple[int, ...]) -> str:
    """Numbers in order, `0-3, 7`."""
    runs: list[list[int]] = []
    for place in places:
        if runs and place == runs[-1][-1] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    shown = [str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs]
    return ", ".join(shown[:6]) + (" and more" if len(shown) > 6 else "")
