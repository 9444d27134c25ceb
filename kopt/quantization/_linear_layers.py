"""Layers that are linear in their kernel, and what stands behind them.

Among others, the batch normalization that goes into a layer when the model is
converted.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import keras
import numpy as np

from kopt import _checks
from kopt._centroids import clustered_weights
from kopt._kernels.axes import KernelAxes, kernel_axes
from kopt.quantization._trace import Call, Trace
from kopt.quantization.snapping import is_quantized

_LINEAR = (
    keras.layers.Dense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)


def linear_axes(layer: Any) -> KernelAxes | None:
    """The axes of a layer's kernel; None if it is none of these layers."""
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return None
    for known in _LINEAR:
        if isinstance(layer, known) and type(layer).call is known.call:
            return kernel_axes(layer, "kernel", len(layer.kernel.shape))
    return None


class Chains:
    """Where the tensors of a trace go.

    Args:
        trace: What a model calls.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self._takers: dict[int, list[Call]] = {}
        for call in trace.calls:
            for _, identity in call.inputs:
                self._takers.setdefault(identity, []).append(call)
        self._uses = Counter(_work(call.layer) for call in trace.calls)

    def is_used_once(self, layer: Any) -> bool:
        """Whether the model calls a layer once, and no other shares its kernel."""
        return self._uses[_work(layer)] == 1

    def next(self, call: Call) -> Call | None:
        """The one call that takes what a call returns; None if others see it too."""
        if len(call.outputs) != 1 or call.outputs[0] in self.trace.escaping:
            return None
        takers = self._takers.get(call.outputs[0], [])
        return takers[0] if len(takers) == 1 else None

    def normalization(self, call: Call) -> Call | None:
        """The call of the batch normalization that goes into a linear layer."""
        follower = self.next(call)
        if follower is None or not is_plain(call.layer.activation):
            return None
        layer = follower.layer
        usable = (
            isinstance(layer, keras.layers.BatchNormalization)
            and layer.axis in (-1, layer.input_spec.ndim - 1)
            and self.is_used_once(layer)
        )
        return follower if usable else None


def is_plain(activation: Any) -> bool:
    """Whether an activation hands its input on."""
    return activation is None or activation is keras.activations.linear


def normalization_scale(layer: Any) -> np.ndarray:
    """What a batch normalization multiplies each channel by at inference."""
    variance = layer.moving_variance.numpy().astype("float64")
    scale = 1.0 / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        scale = scale * layer.gamma.numpy()
    return np.asarray(scale)


def require_float(model: keras.Model, verb: str) -> None:
    """A model that was built and is not yet quantized, with finite weights."""
    _checks.finite_weights("model", _checks.keras_model("model", model))
    _checks.no_adapters("model", model)
    if is_quantized(model):
        raise ValueError(
            f"`{verb}` prepares a float model for quantization, but this one is "
            "quantized. Call it before `quantize_model`, or after "
            "`strip_quantization`."
        )
    if clustered_weights(model):
        raise ValueError(
            f"`{verb}` works on the weights themselves, which are not what a clustered "
            "model computes with. Call it before `cluster_weights`, or after "
            "`strip_clustering`."
        )


def path_of(layer: Any) -> str:
    """The path of a layer in its model."""
    return getattr(layer, "path", None) or str(layer.name)


def _work(layer: Any) -> int:
    return id(getattr(layer, "kernel", layer))
