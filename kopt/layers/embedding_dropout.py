from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.layers import _drop
from kopt.layers._random_layer import RandomLayer, Traits


@register("layers")
class EmbeddingDropout(RandomLayer, keras.layers.Wrapper):
    """Drops whole words at random in training, each wherever it occurs.

    A word that is dropped has a vector of zeros at all of its places, so that a model
    cannot lean on single words. The embedding inside is not touched: regularizers see
    all of it, and rows that are dropped get no gradient. At inference it runs as it is.

    Args:
        layer: The `keras.layers.Embedding` to wrap.
        rate: Probability of dropping a word, from 0 to 1. `wrapper.rate = 0.3` moves
            it, for compiled steps too. It is saved with the configuration (a `.keras`
            file keeps the current rate) and is not one of the layer's weights.
        mode: `"batch"` drops the same words in all sequences of a batch, as AWD-LSTM
            does; `"row"` draws for each sequence.
        seed: Integer seed. Defaults to a new one for each layer. XLA draws other
            numbers from it than the uncompiled or plainly traced layer.
        **kwargs: Arguments of `keras.layers.Layer`. `dtype` defaults to `layer`'s own.

    Call arguments:
        inputs: Integers of shape `(samples, ...)`. With `mask_zero` the mask of the
            embedding is passed on.
        training: Whether to drop.

    Raises:
        TypeError: If `layer` is not an embedding.
        ValueError: If `rate` is outside 0 to 1, or `mode` is unknown.

    References:
        Gal, Ghahramani: A Theoretically Grounded Application of Dropout in Recurrent
        Neural Networks, 2015, arXiv:1512.05287. Merity, Keskar, Socher: Regularizing
        and Optimizing LSTM Language Models, 2017, arXiv:1708.02182.

    Example:

    >>> words = keras.layers.Embedding(4, 1, embeddings_initializer="ones")
    >>> layer = kopt.layers.EmbeddingDropout(words, 0.5, seed=1)
    >>> outputs = layer(np.array([[0, 1, 2, 3, 3, 2, 1, 0]]), training=True)
    >>> np.array(outputs).ravel().tolist()
    [2.0, 0.0, 2.0, 0.0, 0.0, 2.0, 0.0, 2.0]
    """

    _traits = Traits(
        variants=(
            lambda: {"layer": keras.layers.Embedding(5, 3)},
            lambda: {"layer": keras.layers.Embedding(5, 3), "mode": "row"},
        ),
        input_shape=(8, 6),
        drops="weights",
        takes="integers",
    )

    def __init__(
        self,
        layer: keras.layers.Embedding,
        rate: float = 0.1,
        mode: str = "batch",
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(layer, keras.layers.Embedding):
            raise TypeError(
                f"`layer` must be a keras.layers.Embedding. Received: layer={layer!r}."
            )
        # Another float type than the layer's own would cast its outputs.
        kwargs.setdefault("dtype", layer.dtype_policy)
        super().__init__(layer=layer, rate=rate, seed=seed, **kwargs)
        self.mode = _checks.one_of("mode", mode, ("batch", "row"))
        self.supports_masking = layer.supports_masking
        # Half precision has no integers above 2048, or 256.
        self.autocast = False

    def call(self, inputs: Any, training: bool = False) -> Any:
        outputs = self.layer(inputs)
        if not training:
            return outputs
        words = ops.cast(inputs, "int32")
        count = self.layer.input_dim
        if self.mode == "batch":
            keep = _drop.keep_mask((count,), self._rate, self.seed_generator)
            kept = ops.take(keep, words)
        else:
            samples = ops.shape(words)[0]
            keep = _drop.keep_mask((samples, count), self._rate, self.seed_generator)
            flat = ops.reshape(words, (samples, -1))
            kept = ops.reshape(ops.take_along_axis(keep, flat, 1), ops.shape(words))
        return _drop.drop(outputs, ops.expand_dims(kept, -1), self._rate)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.layer.compute_output_shape(input_shape)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return self.layer.compute_mask(inputs, previous_mask)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mode": self.mode}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> EmbeddingDropout:
        # A copy: Keras's own wrapper takes the layer out of the caller's dict.
        return super().from_config(dict(config), custom_objects=custom_objects)
