from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import keras

from kopt._keras.graphs import GraphCall, graph_calls, has_graph
from kopt._registry import register

layers = keras.layers
_FUNCTIONS = {
    keras.activations.relu,
    keras.activations.relu6,
    keras.activations.leaky_relu,
    keras.activations.elu,
    keras.activations.sigmoid,
}
_ELEMENTWISE = (
    layers.Add,
    layers.Multiply,
    layers.ZeroPadding2D,
    layers.ReLU,
    layers.LeakyReLU,
    layers.ELU,
    layers.Dropout,
)
_OPERATIONS = ("Add", "Subtract", "Multiply", "Identity")
# Kernel size and padding before it of the depthwise convolutions.
_PADDED_DEPTHWISE = {(3, 3): ((1, 1), (1, 1)), (5, 5): ((2, 2), (2, 2))}


@register("pruning", serializable=False)
class PruneForLatencyOnXNNPack:
    """Prune what XNNPACK computes faster when it is sparse: 1 x 1 convolutions.

    TFLite's CPU runtime has sparse kernels for a chain of layers that begins with a
    3 x 3 convolution of stride 2 over 3 channels, behind a zero padding of 1, and ends
    in a global average pooling. Inside may be 1 x 1 convolutions, depthwise ones,
    additions, products, and simple activations. The policy refuses a model without such
    a chain, and leaves all but its 1 x 1 convolutions dense. Measure the file: which
    processors gain, and from which sparsity on, depends on the runtime.

    Raises:
        ValueError: By `prune_low_magnitude`, if the model has no such chain, or one
            with a layer inside that has no sparse kernel; if it is no functional or
            sequential model.

    References:
        Elsen et al., 2019, "Fast Sparse ConvNets", arXiv:1911.09723.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((32, 32, 3)), keras.layers.ZeroPadding2D(1),
    ...     keras.layers.Conv2D(8, 3, strides=2, name="first"),
    ...     keras.layers.Conv2D(16, 1, name="pointwise"),
    ...     keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10)])
    >>> model = kopt.pruning.prune_low_magnitude(
    ...     model, pruning_policy=kopt.pruning.PruneForLatencyOnXNNPack())
    >>> report = kopt.pruning.sparsity_report(model)
    >>> [weight.shape for weight in report.weights if weight.pruned]
    [(1, 1, 8, 16)]
    """

    def allow_pruning(self, layer: keras.Layer) -> bool:
        """Whether a layer is a 1 x 1 convolution."""
        return isinstance(layer, layers.Conv2D) and layer.kernel_size == (1, 1)

    def ensure_model_supports_pruning(self, model: keras.Model) -> None:
        """Raise a `ValueError` unless the model has a chain of sparse kernels."""
        if not has_graph(model):
            raise ValueError(
                "PruneForLatencyOnXNNPack reads the graph of a functional or "
                f"sequential model. Received a {type(model).__name__}. Choose its "
                "1 x 1 convolutions yourself with `layers`."
            )
        _Chain(model).check()


class _Chain:
    """The layers of a model between the first convolution and the last pooling."""

    def __init__(self, model: keras.Model) -> None:
        self._producers: dict[int, GraphCall] = {}
        self._consumers: dict[int, list[GraphCall]] = defaultdict(list)
        for call in graph_calls(model):
            self._producers |= {id(tensor): call for tensor in call.outputs}
            for tensor in call.inputs:
                self._consumers[id(tensor)].append(call)
        self._inputs, self._outputs = model.inputs, model.outputs

    def check(self) -> None:
        into = [one for tensor in self._inputs for one in self._consumers[id(tensor)]]
        starts = _reached(into, self._begins, self._next)
        if not starts:
            raise ValueError(
                "XNNPACK's sparse kernels begin behind a ZeroPadding2D(1) and a Conv2D "
                "of 3 x 3, strides 2 and padding 'valid' on 3 channels; not every "
                "input of the model comes to one. Prune it without this policy."
            )
        out_of = [self._producers[id(t)] for t in self._outputs if self._is_made(t)]
        if not _reached(out_of, self._ends, self._before):
            raise ValueError(
                "XNNPACK's sparse kernels end in a GlobalAveragePooling2D; not every "
                "output of the model comes from one. Prune it without this policy."
            )
        inside = [after for start in starts for after in self._next(start)]
        _reached(inside, self._must_be_sparse, self._next)

    def _must_be_sparse(self, call: GraphCall) -> bool:
        if self._ends(call):
            return True
        if not self._has_kernel(call):
            operation = call.operation
            raise ValueError(
                "Between the first convolution and the last pooling, "
                f"{operation.name!r} ({type(operation).__name__}) has no sparse kernel "
                "in XNNPACK. Replace it, or prune without this policy."
            )
        return False

    def _begins(self, call: GraphCall) -> bool:
        layer = call.operation
        return (
            isinstance(layer, layers.Conv2D)
            and tuple(layer.kernel.shape[:3]) == (3, 3, 3)
            and layer.strides == (2, 2)
            and layer.padding == "valid"
            and self._padding_before(call) == ((1, 1), (1, 1))
        )

    @staticmethod
    def _ends(call: GraphCall) -> bool:
        return isinstance(call.operation, layers.GlobalAveragePooling2D)

    def _has_kernel(self, call: GraphCall) -> bool:
        layer = call.operation
        if isinstance(layer, layers.DepthwiseConv2D):
            return self._is_sparse_depthwise(call)
        if isinstance(layer, layers.Conv2D):
            plain = layer.groups == 1 and layer.dilation_rate == (1, 1)
            return plain and layer.kernel_size == layer.strides == (1, 1)
        if isinstance(layer, layers.BatchNormalization):
            return layer.axis in (3, -1)
        if isinstance(layer, layers.UpSampling2D):
            return layer.interpolation == "bilinear"
        if isinstance(layer, layers.Activation):
            return layer.activation in _FUNCTIONS
        if isinstance(layer, keras.Layer):
            return isinstance(layer, _ELEMENTWISE)
        return type(layer).__name__ in _OPERATIONS

    def _is_sparse_depthwise(self, call: GraphCall) -> bool:
        layer = call.operation
        if layer.depth_multiplier != 1 or layer.dilation_rate != (1, 1):
            return False
        if layer.padding == "same":
            return layer.strides == (1, 1) and layer.kernel_size in _PADDED_DEPTHWISE
        needed = _PADDED_DEPTHWISE.get(layer.kernel_size)
        moves = layer.strides in ((1, 1), (2, 2))
        return moves and needed is not None and self._padding_before(call) == needed

    def _padding_before(self, call: GraphCall) -> object:
        before = self._before(call)
        if len(before) != 1 or not isinstance(
            before[0].operation, layers.ZeroPadding2D
        ):
            return None
        return before[0].operation.padding

    def _next(self, call: GraphCall) -> list[GraphCall]:
        return [one for out in call.outputs for one in self._consumers[id(out)]]

    def _before(self, call: GraphCall) -> list[GraphCall]:
        return [self._producers[id(t)] for t in call.inputs if self._is_made(t)]

    def _is_made(self, tensor: keras.KerasTensor) -> bool:
        return id(tensor) in self._producers


def _reached(
    calls: Iterable[GraphCall],
    is_goal: Callable[[GraphCall], bool],
    follow: Callable[[GraphCall], list[GraphCall]],
) -> list[GraphCall]:
    """The goals that all ways from some calls come to; none if one way does not."""
    waiting, seen, found = list(calls), set(), []
    while waiting:
        call = waiting.pop()
        if id(call) in seen:
            continue
        seen.add(id(call))
        if is_goal(call):
            found.append(call)
            continue
        further = follow(call)
        if not further:
            return []
        waiting += further
    return found
