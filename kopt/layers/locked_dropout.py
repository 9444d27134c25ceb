from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from kopt._registry import register
from kopt.layers import _drop
from kopt.layers._random_layer import RandomLayer, Traits


@register("layers")
class LockedDropout(RandomLayer):
    """Dropout that drops the same features at every step of a sequence.

    Between and after recurrent layers: noise that is new at each step is averaged away
    by the memory, or wipes it out. One mask for a whole sequence does neither. Also
    called variational dropout.

    Args:
        rate: Probability of dropping a feature, from 0 to 1. `layer.rate = 0.3` moves
            it, for compiled steps too. It is saved with the configuration (a `.keras`
            file keeps the current rate) and is not one of the layer's weights.
        seed: Integer seed. Defaults to a new one for each layer. XLA draws other
            numbers from it than the uncompiled or plainly traced layer.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Floating-point tensor of shape `(samples, steps, ..., features)`. A
            Keras mask of padded steps is passed on.
        training: Whether to drop.

    Raises:
        ValueError: If `rate` is outside 0 to 1, or the inputs have fewer than 3 axes.

    References:
        Gal, Ghahramani: A Theoretically Grounded Application of Dropout in Recurrent
        Neural Networks, 2015, arXiv:1512.05287. Merity, Keskar, Socher: Regularizing
        and Optimizing LSTM Language Models, 2017, arXiv:1708.02182.

    Example:

    >>> layer = kopt.layers.LockedDropout(0.5, seed=1)
    >>> outputs = np.array(layer(np.ones((2, 7, 4)), training=True))
    >>> bool((outputs == outputs[:, :1]).all()), sorted(set(outputs.ravel().tolist()))
    (True, [0.0, 2.0])
    """

    _traits = Traits(input_shape=(8, 5, 6))

    def __init__(
        self, rate: float = 0.3, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(rate=rate, seed=seed, **kwargs)
        self.supports_masking = True

    def build(self, input_shape: Sequence[int | None]) -> None:
        if len(input_shape) < 3:
            raise ValueError(
                "LockedDropout takes sequences of shape (samples, steps, ..., "
                f"features). Received: inputs of shape {tuple(input_shape)}. Where "
                "there are no steps, take kopt.layers.Dropout."
            )
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training:
            return inputs
        samples, _, *rest = ops.shape(inputs)
        keep = _drop.keep_mask((samples, 1, *rest), self._rate, self.seed_generator)
        return _drop.drop(inputs, keep, self._rate)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        return input_shape
