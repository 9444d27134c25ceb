from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.layers import _drop
from kopt.layers._random_layer import RandomLayer, Traits

_KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel")


@register("layers")
class DropConnect(RandomLayer, keras.layers.Wrapper):
    """Zeroes single weights of the layer inside at random in training.

    Finer than dropout, which zeroes all weights that leave a unit together. The
    wrapped layer's own weights are not touched: a training step computes with a
    dropped copy of them, gradients flow to the weights that were kept, and
    regularizers see all. At inference the layer inside runs as it is. (What
    EfficientNet calls `drop_connect_rate` is the rate of a `DropPath`.)

    `mode="batch"` draws one mask a step, at the cost of one pass over the weights.
    `mode="row"` draws one for each sample, as the paper does. That takes memory for
    `batch * weights` numbers, and convolutions run sample by sample, so keep it for
    small layers.

    Args:
        layer: The layer to wrap: `Dense`, `EinsumDense`, or any convolution.
        rate: Probability of dropping a weight, from 0 to 1. `wrapper.rate = 0.3` moves
            it, for compiled steps too. It is saved with the configuration (a `.keras`
            file keeps the current rate) and is not one of the layer's weights.
        mode: `"batch"` or `"row"`.
        seed: Integer seed. Defaults to a new one for each layer. XLA draws other
            numbers from it than the uncompiled or plainly traced layer.
        drop_bias: Whether the bias is dropped as well, as in the paper.
        **kwargs: Arguments of `keras.layers.Layer`. `dtype` defaults to `layer`'s own.

    Call arguments:
        inputs: What `layer` takes.
        training: Whether to drop.

    Raises:
        TypeError: If `layer` is not a Keras layer.
        ValueError: If `rate` is outside 0 to 1, `mode` is unknown, or `layer` turns out
            to have no kernel.

    References:
        Wan, Zeiler, Zhang, LeCun, Fergus: Regularization of Neural Networks using
        DropConnect. ICML 2013. Surviving weights are scaled by `1 / (1 - rate)` here,
        so that nothing has to be scaled at inference; the paper's sampling at inference
        is replaced by this mean.

    Example:

    >>> dense = keras.layers.Dense(1, kernel_initializer="ones")
    >>> layer = kopt.layers.DropConnect(dense, 0.5, mode="row", seed=1)
    >>> outputs = np.array(layer(np.ones((1000, 2)), training=True))
    >>> sorted(set(outputs.ravel().tolist()))  # none, one or both weights are left
    [0.0, 2.0, 4.0]
    >>> np.array(layer(np.ones((1, 2)))).tolist()
    [[2.0]]
    """

    _traits = Traits(
        variants=(
            lambda: {"layer": keras.layers.Dense(6, use_bias=False)},
            lambda: {"layer": keras.layers.Dense(6, use_bias=False), "mode": "row"},
            lambda: {"layer": keras.layers.Conv2D(6, 1, use_bias=False)},
            lambda: {"layer": keras.layers.Conv2D(6, 1, use_bias=False), "mode": "row"},
        ),
        drops="weights",
    )

    def __init__(
        self,
        layer: keras.layers.Layer,
        rate: float = 0.5,
        mode: str = "batch",
        seed: int | None = None,
        *,
        drop_bias: bool = False,
        **kwargs: Any,
    ) -> None:
        if not isinstance(layer, keras.layers.Layer):
            raise TypeError(
                f"`layer` must be a Keras layer to wrap. Received: layer={layer!r}."
            )
        # Another float type than the layer's own would cast its inputs and outputs.
        kwargs.setdefault("dtype", layer.dtype_policy)
        super().__init__(layer=layer, rate=rate, seed=seed, **kwargs)
        self.mode = _checks.one_of("mode", mode, ("batch", "row"))
        self.drop_bias = bool(drop_bias)
        self.supports_masking = layer.supports_masking
        if self._runs_row_by_row and layer.activity_regularizer is not None:
            raise ValueError(
                'With mode="row" a convolution runs sample by sample and cannot carry '
                f"an `activity_regularizer`. Received: layer={layer.name!r} with "
                f"{layer.activity_regularizer}. Give it to DropConnect instead: "
                "DropConnect(layer, activity_regularizer=...)."
            )

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        kernels = _places(self.layer, _KERNELS)
        if not kernels:
            raise ValueError(
                "DropConnect drops the weights in a layer's `kernel`. "
                f"{type(self.layer).__name__} {self.layer.name!r} has none. Wrap a "
                "Dense layer, an EinsumDense layer or a convolution."
            )
        bias = _places(self.layer, ("bias",)) if self.drop_bias else ()
        self._dropped_places = (*kernels, *bias)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training:
            return self.layer(inputs)
        if self.mode == "batch":
            return self._one_mask(inputs)
        if self._runs_row_by_row:
            return self._row_by_row(inputs)
        return self._all_rows_at_once(inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.layer.compute_output_shape(input_shape)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return self.layer.compute_mask(inputs, previous_mask)

    def get_config(self) -> dict[str, Any]:
        own = {"mode": self.mode, "drop_bias": self.drop_bias}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> DropConnect:
        # A copy: Keras's own wrapper takes the layer out of the caller's dict.
        return super().from_config(dict(config), custom_objects=custom_objects)

    @property
    def _runs_row_by_row(self) -> bool:
        return self.mode == "row" and not isinstance(self.layer, keras.layers.Dense)

    def _one_mask(self, inputs: Any) -> Any:
        weights = self._weights()
        keep = self._keep_masks(weights)
        with _in_place(self.layer, self._drop(weights, keep)):
            return self.layer(inputs)

    def _all_rows_at_once(self, inputs: Any) -> Any:
        # Weights of shape (batch, 1, ..., in, out) make one product for all samples.
        flat = len(inputs.shape) == 2
        if flat:
            inputs = ops.expand_dims(inputs, 1)
        weights = self._weights()
        keep = self._keep_masks(weights, ops.shape(inputs)[0])
        dropped = {
            place: _to_rank(weight, len(inputs.shape))
            for place, weight in self._drop(weights, keep).items()
        }
        with _in_place(self.layer, dropped):
            outputs = self.layer(inputs)
        return ops.squeeze(outputs, 1) if flat else outputs

    def _row_by_row(self, inputs: Any) -> Any:
        weights = self._weights()

        def one_row(row: tuple[Any, dict[str, Any]]) -> Any:
            sample, keep = row
            with _in_place(self.layer, self._drop(weights, keep)):
                return self.layer(ops.expand_dims(sample, 0))[0]

        keep = self._keep_masks(weights, ops.shape(inputs)[0])
        return ops.map(one_row, (inputs, keep))

    def _weights(self) -> dict[str, Any]:
        return {
            place: ops.convert_to_tensor(vars(self.layer)[place])
            for place in self._dropped_places
        }

    def _keep_masks(self, weights: dict[str, Any], *rows: Any) -> dict[str, Any]:
        return {
            place: _drop.keep_mask(
                (*rows, *weight.shape), self._rate, self.seed_generator
            )
            for place, weight in weights.items()
        }

    def _drop(self, weights: dict[str, Any], keep: dict[str, Any]) -> dict[str, Any]:
        return {
            place: _drop.drop(weight, keep[place], self._rate)
            for place, weight in weights.items()
        }


def _places(layer: keras.layers.Layer, names: Sequence[str]) -> tuple[str, ...]:
    """The attributes that hold a layer's variables: Dense's kernel is in `_kernel`."""
    variables = [getattr(layer, name, None) for name in names]
    return tuple(
        place
        for place, value in vars(layer).items()
        if isinstance(value, keras.Variable)
        and any(value is variable for variable in variables)
    )


def _to_rank(weight: Any, rank: int) -> Any:
    """Insert axes of size 1 behind the first until an array has `rank` of them."""
    ones = (1,) * (rank - len(weight.shape))
    return ops.reshape(weight, (-1, *ones, *weight.shape[1:]))


@contextlib.contextmanager
def _in_place(layer: keras.layers.Layer, tensors: dict[str, Any]) -> Iterator[None]:
    """Let a layer compute with tensors in the place of its variables."""
    # Past the layer's `__setattr__`, which would track the tensors. One trace at a time
    # runs through here: replicas are traced one after the other.
    own = {place: vars(layer)[place] for place in tensors}
    vars(layer).update(tensors)
    try:
        yield
    finally:
        vars(layer).update(own)
