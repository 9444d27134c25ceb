"""Networks whose gradients are known to be good or bad, each with data to train on."""

import keras
import numpy as np
from keras import layers


def stack(depth, activation, kernels, width=16, head=4):
    """Dense layers one on the other: `hidden_0` ... and `head`."""
    parts = [
        layers.Dense(
            width, activation, kernel_initializer=kernels(i), name=f"hidden_{i}"
        )
        for i in range(depth)
    ]
    model = keras.Sequential([keras.Input((8,)), *parts])
    model.add(layers.Dense(head, "softmax", name="head"))
    return model, noise(64, 8), classes(64, head)


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def classes(count, number):
    return np.random.default_rng(1).integers(0, number, count)


def normal(scale, width=16):
    """Kernels that multiply the length of a vector by `scale`, in the mean."""
    return keras.initializers.RandomNormal(stddev=scale / np.sqrt(width))


def sigmoids():
    return stack(30, "sigmoid", lambda place: "glorot_uniform")


def growing():
    """Rectified layers whose kernels are four times too large."""
    return stack(12, "relu", lambda place: normal(4.0 * np.sqrt(2.0)))


def growing_backwards():
    """Squashed layers with too large kernels: gradients grow towards the input."""
    return stack(20, "tanh", lambda place: normal(4.0))


def rectified():
    return stack(12, "relu", lambda place: "he_normal", width=64)


def residual(blocks=6, filters=16):
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(inputs)
    for _ in range(blocks):
        y = layers.ReLU()(layers.BatchNormalization()(x))
        y = layers.Conv2D(filters, 3, padding="same", use_bias=False)(y)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        y = layers.Conv2D(filters, 3, padding="same", use_bias=False)(y)
        x = layers.Add()([x, y])
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    outputs = layers.Dense(10, "softmax")(x)
    return keras.Model(inputs, outputs), noise(64, 16, 16, 3), classes(64, 10)


def transformer(blocks=2, width=32):
    inputs = keras.Input((16,), dtype="int32")
    x = layers.Embedding(100, width)(inputs)
    for _ in range(blocks):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(4, width // 4)(y, y)])
        y = layers.Dense(4 * width, "gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(width)(y)])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    outputs = layers.Dense(5, "softmax")(x)
    tokens = np.random.default_rng(0).integers(0, 100, (64, 16))
    return keras.Model(inputs, outputs), tokens, classes(64, 5)


def mobilenet():
    model = keras.applications.MobileNetV2((64, 64, 3), 0.35, weights=None, classes=10)
    return model, noise(32, 64, 64, 3), classes(32, 10)
