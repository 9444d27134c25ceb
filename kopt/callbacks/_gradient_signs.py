"""Which layers of a network learn too little or too much, by their gradients.

The norm of a gradient alone says little: it depends on the scale of the loss, and for
twice the weights it is half as large. What compares over layers is the product of the
norms of gradient and weights, the change of the loss for a relative change of the
weights. In a network of rectified layers it is the same for all of them, however the
weights are scaled (Du et al., 2018, arXiv:1806.00900); a healthy network
has a spread of a factor of 100 at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from kopt._findings import Finding, listed
from kopt.callbacks._probe import Measured

# How much less than the layer with the most a layer has to matter for the loss.
_VANISHING = 1e-5
# How much more than the output layer, and than the loss itself.
_EXPLODING = 100.0
# Norm of the gradient by norm of the weights, where all layers explode alike.
_ABSOLUTE = 1e4
# The share of units without a gradient.
_DEAD = 0.75

_ADVICE = {
    "gradients that are not finite": (
        "find the batch: kopt.callbacks.SpikeGuard skips steps that are not finite, "
        "and says where they were",
        "a lower learning rate (kopt.callbacks.LRFinder), with kopt.schedules.Warmup",
        "float32 for what overflows in 16 bits, or a LossScaleOptimizer",
    ),
    "vanishing gradients": (
        "activations that do not saturate (relu, gelu) in place of sigmoid and tanh, "
        "with kernels from he_normal",
        "residual connections around the layers, with normalization in each branch; "
        "kopt.layers.DropPath makes very deep ones easier to train",
        "an optimizer whose steps do not depend on the size of a gradient: kopt.LAMB, "
        "kopt.Muon, kopt.Lion",
    ),
    "exploding gradients": (
        "clipping: global_clipnorm=1.0, or agc=0.01, of any kopt optimizer",
        "a lower learning rate (kopt.callbacks.LRFinder), with kopt.schedules.Warmup",
        "smaller initial kernels (glorot_uniform), normalization between the layers",
        "kopt.callbacks.SpikeGuard(gradient_z=6.0), which skips steps that stand out",
    ),
    "dead units": (
        "a lower learning rate, or kopt.schedules.Warmup: large steps push units below "
        "zero for good",
        "leaky_relu, elu or gelu in place of relu",
        "normalization before the activation",
    ),
}
_WORDS = {
    "gradients that are not finite": "Gradients are not finite",
    "vanishing gradients": "Gradients vanish",
    "exploding gradients": "Gradients explode",
    "dead units": "Three in four units or more are dead",
}


def matters(measured: Measured) -> np.ndarray:
    """What a relative change of each kernel changes of the loss."""
    return measured.gradients * measured.weights


def not_finite(measured: Measured) -> np.ndarray:
    return ~np.isfinite(measured.gradients)


def vanishing(measured: Measured) -> np.ndarray:
    """Kernels that hardly matter beside others and beside the loss."""
    effect = matters(measured)
    largest = np.max(effect, initial=0.0, where=np.isfinite(effect))
    small = effect < _VANISHING * largest
    # Of a kernel of zeros, as a residual branch may begin with, nothing is known.
    return small & (effect < _VANISHING * abs(measured.loss)) & (measured.weights > 0)


def exploding(measured: Measured) -> np.ndarray:
    """Kernels that matter far more than those at the output, or are dwarfed by it."""
    effect = matters(measured)
    output = np.median(effect[-3:])
    more = effect > _EXPLODING * max(output, abs(measured.loss))
    dwarfed = measured.gradients > _ABSOLUTE * measured.weights
    return more | (dwarfed & (measured.weights > 0))


def dead(measured: Measured) -> np.ndarray:
    """Kernels most of whose units get no gradient, though others do."""
    alive = measured.gradients > 0
    return (measured.dead >= _DEAD) & alive


_SIGNS: dict[str, Callable[[Measured], np.ndarray]] = {
    "gradients that are not finite": not_finite,
    "vanishing gradients": vanishing,
    "exploding gradients": exploding,
    "dead units": dead,
}


def findings(
    names: Sequence[str], steps: Sequence[int], measured: Sequence[Measured]
) -> tuple[Finding, ...]:
    """What is wrong: what the last measurement shows, and half of all at least.

    Args:
        names: The names of the kernels, from the input to the output.
        steps: The step of each measurement.
        measured: The measurements, the oldest first.
    """
    found: list[Finding] = []
    for kind, sign in _SIGNS.items():
        seen = np.array([sign(one) for one in measured])
        wrong = seen[-1] & (seen.mean(axis=0) >= 0.5)
        if not wrong.any():
            continue
        layers = tuple(name for name, flag in zip(names, wrong, strict=True) if flag)
        begin = len(steps)
        while begin and (seen[begin - 1] & wrong).any():
            begin -= 1
        text = (
            f"{_WORDS[kind]} in {len(layers)} of {len(names)} kernels, since step "
            f"{steps[begin]}: {listed(layers)}.{_numbers(kind, wrong, measured[-1])} "
            "What helps:"
        )
        found.append(Finding(kind, text, steps[begin], layers, _ADVICE[kind]))
    return tuple(found)


def _numbers(kind: str, wrong: np.ndarray, measured: Measured) -> str:
    """How far it is from what it should be."""
    effect = matters(measured)
    if kind == "vanishing gradients":
        share = effect[wrong].min() / max(np.nanmax(effect), 1e-300)
        if share == 0.0:
            return " The first of them have none at all, in this precision."
        return f" The least of them matters {share:.0e} times as much as the most does."
    if kind == "exploding gradients":
        ratio = (measured.gradients / np.maximum(measured.weights, 1e-300))[wrong].max()
        return f" The largest gradient is {ratio:.0e} times as long as its weights."
    return ""
