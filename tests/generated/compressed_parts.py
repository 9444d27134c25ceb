"""What generated models are made of: Keras's layers, operations and layers by hand.

A part takes tensors of one kind (`vector`, `sequence`, `image`, `tokens`), named by
their rank, and gives one tensor. `PARTS` holds all of them by the name that a
description has. To add one is to add a line there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import layers, ops

RANKS = {"tokens": 2, "vector": 2, "sequence": 3, "image": 4}


class PartKind(NamedTuple):
    """A way to go on from tensors.

    Args:
        takes: The kind of tensor that it takes.
        make: From a size to a function of tensors: a layer, or what calls operations.
        count: How many tensors it takes.
        state: Whether a call leaves something behind for the next.
    """

    takes: str
    make: Callable[[int], Callable[..., Any]]
    count: int = 1
    state: bool = False


@keras.saving.register_keras_serializable("generated")
class KeepsConstant(layers.Layer):
    """Position embeddings, looked up by a constant from `build`."""

    def build(self, shape):
        self.position = layers.Embedding(shape[1], shape[2])
        self.position.build(None)
        self.ids = ops.expand_dims(ops.arange(shape[1]), 0)
        self.built = True

    def call(self, x):
        return x + self.position(self.ids)


@keras.saving.register_keras_serializable("generated")
class CausalAttention(layers.Layer):
    """Attention by hand: operations, and a softmax that gets a mask."""

    def __init__(self, size=4, **options):
        super().__init__(**options)
        self.size = size
        self.query, self.key = layers.Dense(size), layers.Dense(size)
        self.softmax = layers.Softmax()

    def build(self, shape):
        self.query.build(shape)
        self.key.build(shape)
        self.built = True

    def call(self, x):
        scores = ops.einsum("btd,bud->btu", self.query(x), self.key(x))
        places = ops.arange(x.shape[1])
        mask = ops.cast(places[:, None] >= places[None, :], "int32")[None]
        return ops.matmul(self.softmax(scores, mask), x)

    def get_config(self):
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable("generated")
class Counts(layers.Layer):
    """Adds up what it has seen, at inference as well."""

    def build(self, shape):
        self.seen = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.seen.assign_add(1.0)
        return x * ops.minimum(self.seen, 3.0)


@keras.saving.register_keras_serializable("generated")
class Residual(layers.Layer):
    """A block that makes layers of its own."""

    def __init__(self, **options):
        super().__init__(**options)
        self.normalize = layers.LayerNormalization()

    def build(self, shape):
        self.inner = layers.Dense(shape[-1], activation="relu")
        self.inner.build(shape)
        self.normalize.build(shape)
        self.built = True

    def call(self, x):
        return self.normalize(x + self.inner(x))


def _recurrent(kind: Any, **options: Any) -> Callable[[int], Any]:
    return lambda size: kind(size, **options)


def _dense(activation: Any) -> Callable[[int], Any]:
    return lambda size: layers.Dense(size, activation=activation)


PARTS: dict[str, PartKind] = {
    **{
        f"Dense {name}": PartKind("vector", _dense(name))
        for name in ("relu", "linear", "tanh", "sigmoid", "softmax", "gelu", "silu")
    },
    "hard_silu": PartKind("vector", lambda _: layers.Activation("hard_silu")),
    "LeakyReLU": PartKind("vector", lambda _: layers.LeakyReLU()),
    "PReLU": PartKind("vector", lambda _: layers.PReLU()),
    "BatchNormalization": PartKind("vector", lambda _: layers.BatchNormalization()),
    "LayerNormalization": PartKind("vector", lambda _: layers.LayerNormalization()),
    "Dropout": PartKind("vector", lambda _: layers.Dropout(0.3)),
    "large": PartKind("vector", lambda size: layers.Rescaling(80.0 * size)),
    "ops": PartKind("vector", lambda _: lambda x: ops.maximum(x * 0.5 + 1.0, 0.0)),
    "Counts": PartKind("vector", lambda _: Counts(), state=True),
    "to sequence": PartKind("vector", lambda _: layers.Reshape((1, -1))),
    "Concatenate": PartKind("vector", lambda _: layers.Concatenate(), count=2),
    "Dense on sequence": PartKind("sequence", _dense("relu")),
    "Conv1D": PartKind("sequence", lambda n: layers.Conv1D(n, 1, activation="relu")),
    "causal Conv1D": PartKind(
        "sequence", lambda n: layers.Conv1D(n, 2, padding="causal", dilation_rate=2)
    ),
    "DepthwiseConv1D": PartKind(
        "sequence", lambda _: layers.DepthwiseConv1D(3, padding="same")
    ),
    "Conv1DTranspose": PartKind(
        "sequence", lambda n: layers.Conv1DTranspose(n, 3, padding="same")
    ),
    "LSTM": PartKind("sequence", _recurrent(layers.LSTM)),
    "GRU sequences": PartKind(
        "sequence", _recurrent(layers.GRU, return_sequences=True)
    ),
    "stateful SimpleRNN": PartKind(
        "sequence", _recurrent(layers.SimpleRNN, stateful=True), state=True
    ),
    "stateful GRU": PartKind(
        "sequence", _recurrent(layers.GRU, stateful=True), state=True
    ),
    "Bidirectional": PartKind(
        "sequence", lambda n: layers.Bidirectional(layers.SimpleRNN(n))
    ),
    "TimeDistributed": PartKind(
        "sequence", lambda n: layers.TimeDistributed(layers.Dense(n))
    ),
    "MultiHeadAttention": PartKind(
        "sequence",
        lambda n: ToItself(layers.MultiHeadAttention(2, n), use_causal_mask=True),
    ),
    "CausalAttention": PartKind("sequence", lambda n: CausalAttention(n)),
    "KeepsConstant": PartKind("sequence", lambda _: KeepsConstant()),
    "Residual": PartKind("sequence", lambda _: Residual()),
    "average of sequence": PartKind(
        "sequence", lambda _: layers.GlobalAveragePooling1D()
    ),
    "Concatenate sequences": PartKind(
        "sequence", lambda _: layers.Concatenate(), count=2
    ),
    "Conv2D": PartKind(
        "image", lambda n: layers.Conv2D(n, 3, padding="same", activation="relu")
    ),
    "strided Conv2D": PartKind(
        "image", lambda n: layers.Conv2D(n, 3, strides=2, use_bias=False)
    ),
    "DepthwiseConv2D": PartKind(
        "image", lambda _: layers.DepthwiseConv2D(3, padding="same")
    ),
    "SeparableConv2D": PartKind(
        "image", lambda n: layers.SeparableConv2D(n, 3, padding="same")
    ),
    "Conv2DTranspose": PartKind(
        "image",
        lambda n: layers.Conv2DTranspose(n, 2, use_bias=False, activation="relu"),
    ),
    "normalized image": PartKind("image", lambda _: layers.BatchNormalization()),
    "ReLU": PartKind("image", lambda _: layers.ReLU()),
    "MaxPooling2D": PartKind("image", lambda _: layers.MaxPooling2D(2, padding="same")),
    "UpSampling2D": PartKind("image", lambda _: layers.UpSampling2D(2)),
    "ZeroPadding2D": PartKind("image", lambda _: layers.ZeroPadding2D(1)),
    "average of image": PartKind("image", lambda _: layers.GlobalAveragePooling2D()),
    "Flatten": PartKind("image", lambda _: layers.Flatten()),
    "Embedding": PartKind("tokens", lambda n: layers.Embedding(12, n)),
    "masked Embedding": PartKind(
        "tokens", lambda n: layers.Embedding(12, n, mask_zero=True)
    ),
}


class ToItself:
    """A layer that attends from a sequence to itself."""

    def __init__(self, layer: Any, **arguments: Any) -> None:
        self.layer, self.arguments = layer, arguments

    def __call__(self, x: Any) -> Any:
        return self.layer(x, x, **self.arguments)
