from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.layers import _drop
from kopt.layers._random_layer import RandomLayer


@register("layers")
class Dropout(RandomLayer):
    """Zeroes single inputs at random in training, with a rate that can be moved.

    Takes the place of `keras.layers.Dropout`, with the same arguments and, in float32,
    the same random numbers. What differs: `rate` is a variable, so a callback can warm
    it up or anneal it without tracing the model again; half precision keeps the mean,
    for the random numbers are drawn and the factor is applied in float32; and a saved
    model that is loaded goes on with the random numbers that would have come next.

    In training each input becomes zero with probability `rate` and is scaled by
    `1 / (1 - rate)` otherwise. At inference the inputs come back untouched.

    Args:
        rate: Probability of dropping, from 0 to 1. `layer.rate = 0.3` moves it, for
            compiled steps too. It is saved with the configuration (a `.keras` file
            keeps the current rate) and is not one of the layer's weights.
        noise_shape: Shape of the mask, with 1 along the axes that share one draw and
            `None` for the size of the input. `(None, 1, None)` drops whole features of
            a `(batch, steps, features)` input. Defaults to the shape of the inputs.
        seed: Integer seed. Defaults to a new one for each layer. XLA draws other
            numbers from it than the uncompiled or plainly traced layer.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Floating-point tensor of any rank.
        training: Whether to drop.

    Raises:
        ValueError: If `rate` is outside 0 to 1, or if `noise_shape` does not fit.

    References:
        Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: Dropout: A Simple Way
        to Prevent Neural Networks from Overfitting. JMLR 15, 2014.

    Example:

    >>> layer = kopt.layers.Dropout(0.75, seed=1)
    >>> outputs = np.array(layer(np.ones((100, 100)), training=True))
    >>> sorted(set(outputs.ravel().tolist()))
    [0.0, 4.0]
    >>> layer.rate = 0.1
    >>> outputs = np.array(layer(np.ones((100, 100)), training=True))
    >>> round(float((outputs == 0).mean()), 1)
    0.1
    """

    def __init__(
        self,
        rate: float,
        noise_shape: Sequence[int | None] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(rate=rate, seed=seed, **kwargs)
        self.noise_shape = _checked_noise_shape(noise_shape)
        self.supports_masking = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training:
            return inputs
        keep = _drop.keep_mask(
            self._mask_shape(inputs), self._rate, self.seed_generator
        )
        return _drop.drop(inputs, keep, self._rate)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "noise_shape": self.noise_shape}

    def _mask_shape(self, inputs: Any) -> tuple[Any, ...]:
        sizes = ops.shape(inputs)
        if self.noise_shape is None:
            return sizes
        fits = len(self.noise_shape) == len(sizes) and all(
            wanted in (None, 1) or not isinstance(size, int) or wanted == size
            for wanted, size in zip(self.noise_shape, sizes, strict=False)
        )
        if not fits:
            raise ValueError(
                "`noise_shape` must have one entry for each axis of the inputs: None, "
                f"1 or the size of the axis. Received: noise_shape={self.noise_shape} "
                f"for inputs of shape {tuple(inputs.shape)}."
            )
        return tuple(
            size if wanted is None else wanted
            for wanted, size in zip(self.noise_shape, sizes, strict=True)
        )


def _checked_noise_shape(
    noise_shape: Sequence[int | None] | None,
) -> tuple[int | None, ...] | None:
    if noise_shape is None:
        return None
    if isinstance(noise_shape, str) or not isinstance(noise_shape, Sequence):
        raise TypeError(
            "`noise_shape` must be a tuple or list of integers and None. Received: "
            f"noise_shape={noise_shape!r}."
        )
    return tuple(
        None if size is None else _checks.integer(f"noise_shape[{axis}]", size, low=1)
        for axis, size in enumerate(noise_shape)
    )
