from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import ops

from kopt._keras.layer_tree import with_nested_layers
from kopt._registry import register
from kopt.layers import _drop
from kopt.layers._random_layer import RandomLayer, Traits
from kopt.layers.drop_connect import _in_place, _places

# Keras draws no orthogonal matrices in bfloat16, and saves no seeds of recurrent cells.
_FOR_TESTS: dict[str, Any] = {
    "recurrent_initializer": "glorot_uniform",
    "return_sequences": True,
    "seed": 1,
}


@register("layers")
class WeightDrop(RandomLayer, keras.layers.Wrapper):
    """Drops recurrent weights of the layer inside at random in training.

    DropConnect for recurrent layers: a mask is drawn once a batch and holds for all
    steps of its sequences, so the memory is regularized and not disturbed from step to
    step. The wrapped layer's own weights are not touched: a training step computes with
    a dropped copy of them, gradients flow to the weights that were kept, and
    regularizers see all. At inference the layer inside runs as it is.

    Args:
        layer: The layer to wrap: `LSTM`, `GRU`, `SimpleRNN`, `ConvLSTM`, `RNN` of one
            or several cells, or `Bidirectional` of one of these, whose directions get
            masks of their own.
        rate: Probability of dropping a weight, from 0 to 1. `wrapper.rate = 0.3` moves
            it, for compiled steps too. It is saved with the configuration (a `.keras`
            file keeps the current rate) and is not one of the layer's weights.
        weight_names: Names of the weights to drop, such as `("kernel",
            "recurrent_kernel")`.
            Defaults to the weights from state to state.
        seed: Integer seed. Defaults to a new one for each layer. XLA draws other
            numbers from it than the uncompiled or plainly traced layer.
        **kwargs: Arguments of `keras.layers.Layer`. `dtype` defaults to `layer`'s own.

    Call arguments:
        inputs: What `layer` takes.
        mask: Booleans of shape `(samples, steps)`, as `layer` takes them.
        training: Whether to drop.
        initial_state: The first state, as `layer` takes it.

    Raises:
        TypeError: If `layer` is not a Keras layer.
        ValueError: If `rate` is outside 0 to 1, or `layer` has none of the weights.

    References:
        Merity, Keskar, Socher: Regularizing and Optimizing LSTM Language Models, 2017,
        arXiv:1708.02182. Surviving weights are scaled by `1 / (1 - rate)`.

    Example:

    >>> layer = kopt.layers.WeightDrop(keras.layers.GRU(3), rate=1.0)
    >>> alone = layer.layer  # without its memory each step starts from nothing new
    >>> inputs = np.ones((1, 1, 2))  # one step has no memory to lose
    >>> bool(np.allclose(layer(inputs, training=True), alone(inputs)))
    True
    """

    _traits = Traits(
        variants=(
            lambda: {"layer": keras.layers.LSTM(3, **_FOR_TESTS)},
            lambda: {
                "layer": keras.layers.Bidirectional(keras.layers.GRU(3, **_FOR_TESTS))
            },
        ),
        input_shape=(8, 5, 6),
        drops="recurrent weights",
        scales_survivors=False,
        keeps_mean=False,
    )

    def __init__(
        self,
        layer: keras.layers.Layer,
        rate: float = 0.5,
        weight_names: str | Sequence[str] = "recurrent_kernel",
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(layer, keras.layers.Layer):
            raise TypeError(
                f"`layer` must be a Keras layer to wrap. Received: layer={layer!r}."
            )
        # Another float type than the layer's own would cast its inputs and outputs.
        kwargs.setdefault("dtype", layer.dtype_policy)
        super().__init__(layer=layer, rate=rate, seed=seed, **kwargs)
        names = (weight_names,) if isinstance(weight_names, str) else weight_names
        self.weight_names = tuple(names)
        self.supports_masking = layer.supports_masking

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        holders = [
            (inner, places)
            for inner in with_nested_layers(self.layer)
            if (places := _places(inner, self.weight_names))
        ]
        if not holders:
            names = " or ".join(map(repr, self.weight_names))
            raise ValueError(
                f"`layer` must have weights named {names}. Received: "
                f"{type(self.layer).__name__} {self.layer.name!r}, which has "
                f"{sorted({weight.name for weight in self.layer.weights})}. Name "
                "others in `weight_names`, or wrap a recurrent layer."
            )
        self._holders = tuple(holders)

    def call(
        self,
        inputs: Any,
        mask: Any = None,
        training: bool = False,
        initial_state: Any = None,
    ) -> Any:
        given = {"mask": mask, "initial_state": initial_state}
        known = {name: value for name, value in given.items() if value is not None}
        with self._dropping() if training else contextlib.nullcontext():
            return self.layer(inputs, training=training, **known)

    @contextlib.contextmanager
    def _dropping(self) -> Iterator[None]:
        """Let the layers inside compute with dropped weights."""
        with contextlib.ExitStack() as stack:
            for holder, places in self._holders:
                weights = {
                    place: ops.convert_to_tensor(vars(holder)[place])
                    for place in places
                }
                # Drawn before the loop over the steps, so once for all of them.
                dropped = {
                    place: _drop.drop(weight, self._keep(weight), self._rate)
                    for place, weight in weights.items()
                }
                stack.enter_context(_in_place(holder, dropped))
            yield

    def _keep(self, weight: Any) -> Any:
        return _drop.keep_mask(weight.shape, self._rate, self.seed_generator)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.layer.compute_output_shape(input_shape)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return self.layer.compute_mask(inputs, previous_mask)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weight_names": self.weight_names}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> WeightDrop:
        # A copy: Keras's own wrapper takes the layer out of the caller's dict.
        return super().from_config(dict(config), custom_objects=custom_objects)
