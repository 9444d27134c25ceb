"""A layer of each class that Keras 3 and tf_keras both have, with what to give it."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

L = keras.layers
IMAGE = (6, 6, 3)
VOLUME = (4, 4, 4, 2)
SEQUENCE = (5, 3)


@dataclass
class Case:
    """A way to make a layer, and its inputs' shapes without the batch."""

    make: Callable
    shapes: list
    dtype: str = "float32"


def on(shape, make, dtype="float32"):
    shapes = shape if isinstance(shape, list) else [shape]
    return Case(make, shapes, dtype)


def adapted(layer, data):
    layer.adapt(np.asarray(data))
    return layer


CASES = {
    "Activation": on((4,), lambda: L.Activation("hard_silu")),
    "Activation softmax": on((4,), lambda: L.Activation("softmax")),
    "ActivityRegularization": on((4,), lambda: L.ActivityRegularization(l1=0.1)),
    "Add": on([(4,), (4,)], lambda: L.Add()),
    "AdditiveAttention": on([(4, 3), (5, 3)], lambda: L.AdditiveAttention()),
    "AlphaDropout": on((4,), lambda: L.AlphaDropout(0.5, seed=1)),
    "Attention": on(
        [(4, 3), (5, 3)], lambda: L.Attention(use_scale=True, score_mode="concat")
    ),
    "Average": on([(4,), (4,)], lambda: L.Average()),
    "AveragePooling1D": on(SEQUENCE, lambda: L.AveragePooling1D(2)),
    "AveragePooling2D": on(IMAGE, lambda: L.AveragePooling2D(2, 1, "same")),
    "AveragePooling3D": on(VOLUME, lambda: L.AveragePooling3D(2)),
    "BatchNormalization": on(
        IMAGE, lambda: L.BatchNormalization(momentum=0.8, epsilon=1e-2)
    ),
    "BatchNormalization on an axis": on(
        IMAGE, lambda: L.BatchNormalization(axis=1, scale=False)
    ),
    "Bidirectional": on(SEQUENCE, lambda: L.Bidirectional(L.LSTM(2))),
    "Bidirectional of two": on(
        SEQUENCE,
        lambda: L.Bidirectional(
            L.GRU(2, return_sequences=True),
            merge_mode="sum",
            backward_layer=L.LSTM(2, return_sequences=True, go_backwards=True),
        ),
    ),
    "CategoryEncoding": on(
        (4,), lambda: L.CategoryEncoding(4, output_mode="multi_hot"), "int32"
    ),
    "CenterCrop": on(IMAGE, lambda: L.CenterCrop(4, 3)),
    "Concatenate": on([(4, 2), (4, 3)], lambda: L.Concatenate(axis=-1)),
    "Conv1D": on(SEQUENCE, lambda: L.Conv1D(4, 2, padding="causal", dilation_rate=2)),
    "Conv1DTranspose": on(SEQUENCE, lambda: L.Conv1DTranspose(4, 2, 2)),
    "Conv2D": on(
        IMAGE, lambda: L.Conv2D(6, 3, 2, "same", activation="relu6", groups=3)
    ),
    "Conv2DTranspose": on(
        IMAGE, lambda: L.Conv2DTranspose(4, 3, 2, "same", output_padding=1)
    ),
    "Conv3D": on(VOLUME, lambda: L.Conv3D(3, 2, use_bias=False)),
    "Conv3DTranspose": on(VOLUME, lambda: L.Conv3DTranspose(3, 2)),
    "ConvLSTM1D": on((3, 4, 2), lambda: L.ConvLSTM1D(2, 2)),
    "ConvLSTM2D": on(
        (3, 4, 4, 2), lambda: L.ConvLSTM2D(2, 2, recurrent_activation="hard_sigmoid")
    ),
    "ConvLSTM3D": on((2, 3, 3, 3, 1), lambda: L.ConvLSTM3D(2, 2)),
    "Cropping1D": on(SEQUENCE, lambda: L.Cropping1D((1, 2))),
    "Cropping2D": on(IMAGE, lambda: L.Cropping2D(((1, 2), (0, 1)))),
    "Cropping3D": on(VOLUME, lambda: L.Cropping3D(1)),
    "Dense": on(
        (4,),
        lambda: L.Dense(
            3,
            "gelu",
            kernel_regularizer="l2",
            kernel_constraint=keras.constraints.MaxNorm(3),
        ),
    ),
    "DepthwiseConv1D": on(SEQUENCE, lambda: L.DepthwiseConv1D(2, depth_multiplier=2)),
    "DepthwiseConv2D": on(IMAGE, lambda: L.DepthwiseConv2D(3, padding="same")),
    "Discretization": on(
        (4,), lambda: L.Discretization(bin_boundaries=[-0.5, 0.0, 1.0])
    ),
    "Discretization adapted": on(
        (4,), lambda: adapted(L.Discretization(num_bins=3), np.linspace(-1, 1, 30))
    ),
    "Dot": on([(4,), (4,)], lambda: L.Dot(axes=1, normalize=True)),
    "Dropout": on((4,), lambda: L.Dropout(0.5, seed=1)),
    "ELU": on((4,), lambda: L.ELU(0.7)),
    "EinsumDense": on(
        (4, 3), lambda: L.EinsumDense("abc,cd->abd", (4, 5), bias_axes="d")
    ),
    "Embedding": on((4,), lambda: L.Embedding(4, 3), "int32"),
    "Flatten": on(IMAGE, lambda: L.Flatten()),
    "GRU": on(SEQUENCE, lambda: L.GRU(2, reset_after=True)),
    "GRU reset before": on(SEQUENCE, lambda: L.GRU(2, reset_after=False)),
    "GRUCell": on(SEQUENCE, lambda: L.RNN(L.GRUCell(2, activation="mish"))),
    "GaussianDropout": on((4,), lambda: L.GaussianDropout(0.5)),
    "GaussianNoise": on((4,), lambda: L.GaussianNoise(0.5)),
    "GlobalAveragePooling1D": on(SEQUENCE, lambda: L.GlobalAveragePooling1D()),
    "GlobalAveragePooling2D": on(
        IMAGE, lambda: L.GlobalAveragePooling2D(keepdims=True)
    ),
    "GlobalAveragePooling3D": on(VOLUME, lambda: L.GlobalAveragePooling3D()),
    "GlobalMaxPooling1D": on(SEQUENCE, lambda: L.GlobalMaxPooling1D()),
    "GlobalMaxPooling2D": on(IMAGE, lambda: L.GlobalMaxPooling2D()),
    "GlobalMaxPooling3D": on(VOLUME, lambda: L.GlobalMaxPooling3D()),
    "GroupNormalization": on((6, 6, 4), lambda: L.GroupNormalization(2)),
    "HashedCrossing": on([(1,), (1,)], lambda: L.HashedCrossing(7), "int32"),
    "Hashing": on((4,), lambda: L.Hashing(7, salt=3), "int32"),
    "Identity": on((4,), lambda: L.Identity()),
    "IntegerLookup": on((4,), lambda: L.IntegerLookup(vocabulary=[0, 3]), "int32"),
    "IntegerLookup counting": on(
        (4,), lambda: L.IntegerLookup(vocabulary=[0, 3], output_mode="count"), "int32"
    ),
    "LSTM": on(
        SEQUENCE,
        lambda: L.LSTM(2, recurrent_activation="hard_sigmoid", go_backwards=True),
    ),
    "LSTMCell": on(SEQUENCE, lambda: L.RNN(L.LSTMCell(2), return_sequences=True)),
    "Lambda": on(
        (4,), lambda: L.Lambda(lambda x, power: x**power, arguments={"power": 2})
    ),
    "LayerNormalization": on(SEQUENCE, lambda: L.LayerNormalization(axis=[1, 2])),
    "LeakyReLU": on((4,), lambda: L.LeakyReLU(0.4)),
    "Masking": on(SEQUENCE, lambda: L.Masking(0.5)),
    "MaxPooling1D": on(SEQUENCE, lambda: L.MaxPooling1D(2)),
    "MaxPooling2D": on(IMAGE, lambda: L.MaxPooling2D(2, padding="same")),
    "MaxPooling3D": on(VOLUME, lambda: L.MaxPooling3D(2)),
    "Maximum": on([(4,), (4,)], lambda: L.Maximum()),
    "Minimum": on([(4,), (4,)], lambda: L.Minimum()),
    "MultiHeadAttention": on(
        [(4, 6), (5, 3)],
        lambda: L.MultiHeadAttention(2, 4, value_dim=3, output_shape=7),
    ),
    "Multiply": on([(4,), (4,)], lambda: L.Multiply()),
    "Normalization": on((3,), lambda: adapted(L.Normalization(), np.eye(3))),
    "Normalization given": on(
        IMAGE, lambda: L.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 1.0, 2.0])
    ),
    "PReLU": on(IMAGE, lambda: L.PReLU(shared_axes=[1, 2])),
    "Permute": on(SEQUENCE, lambda: L.Permute((2, 1))),
    "RNN": on(SEQUENCE, lambda: L.RNN(L.SimpleRNNCell(2), go_backwards=True)),
    "RandomBrightness": on(IMAGE, lambda: L.RandomBrightness(0.2)),
    "RandomContrast": on(IMAGE, lambda: L.RandomContrast(0.2)),
    "RandomFlip": on(IMAGE, lambda: L.RandomFlip("horizontal")),
    "RandomRotation": on(IMAGE, lambda: L.RandomRotation(0.2, fill_mode="nearest")),
    "RandomTranslation": on(IMAGE, lambda: L.RandomTranslation(0.1, (-0.1, 0.2))),
    "RandomZoom": on(IMAGE, lambda: L.RandomZoom(0.1)),
    "ReLU": on((4,), lambda: L.ReLU(2.0, 0.1, 0.3)),
    "RepeatVector": on((4,), lambda: L.RepeatVector(3)),
    "Rescaling": on(IMAGE, lambda: L.Rescaling([0.5, 1.0, 2.0], 3.0)),
    "Reshape": on(IMAGE, lambda: L.Reshape((-1, 9))),
    "Resizing": on(IMAGE, lambda: L.Resizing(4, 9, "nearest")),
    "Resizing bilinear": on(IMAGE, lambda: L.Resizing(9, 4)),
    "SeparableConv1D": on(SEQUENCE, lambda: L.SeparableConv1D(4, 2)),
    "SeparableConv2D": on(IMAGE, lambda: L.SeparableConv2D(4, 3, depth_multiplier=2)),
    "SimpleRNN": on(SEQUENCE, lambda: L.SimpleRNN(2, unroll=True)),
    "SimpleRNNCell": on(SEQUENCE, lambda: L.RNN(L.SimpleRNNCell(2, use_bias=False))),
    "Softmax": on(SEQUENCE, lambda: L.Softmax(axis=1)),
    "SpatialDropout1D": on(SEQUENCE, lambda: L.SpatialDropout1D(0.5)),
    "SpatialDropout2D": on(IMAGE, lambda: L.SpatialDropout2D(0.5)),
    "SpatialDropout3D": on(VOLUME, lambda: L.SpatialDropout3D(0.5)),
    "SpectralNormalization": on(
        IMAGE, lambda: L.SpectralNormalization(L.Conv2D(2, 3), 2)
    ),
    "StackedRNNCells": on(SEQUENCE, lambda: L.RNN([L.LSTMCell(2), L.GRUCell(3)])),
    "StringLookup": on((4,), lambda: L.StringLookup(vocabulary=["1", "c"]), "string"),
    "StringLookup one-hot": on(
        (1,),
        lambda: L.StringLookup(vocabulary=["1", "c"], output_mode="one_hot"),
        "string",
    ),
    "Subtract": on([(4,), (4,)], lambda: L.Subtract()),
    "TextVectorization": on(
        (1,), lambda: L.TextVectorization(vocabulary=["1", "c"]), "string"
    ),
    "TextVectorization counting": on(
        (1,),
        lambda: L.TextVectorization(vocabulary=["1", "c"], output_mode="count"),
        "string",
    ),
    "TimeDistributed": on((4, *IMAGE), lambda: L.TimeDistributed(L.Conv2D(2, 3))),
    "UnitNormalization": on(SEQUENCE, lambda: L.UnitNormalization()),
    "UpSampling1D": on(SEQUENCE, lambda: L.UpSampling1D(2)),
    "UpSampling2D": on(IMAGE, lambda: L.UpSampling2D((2, 3), interpolation="bilinear")),
    "UpSampling3D": on(VOLUME, lambda: L.UpSampling3D(2)),
    "ZeroPadding1D": on(SEQUENCE, lambda: L.ZeroPadding1D((1, 2))),
    "ZeroPadding2D": on(IMAGE, lambda: L.ZeroPadding2D(((1, 0), (2, 1)))),
    "ZeroPadding3D": on(VOLUME, lambda: L.ZeroPadding3D(1)),
}


def model_of(case):
    """A functional model of the one layer, with weights that are not their defaults."""
    inputs = [keras.Input(shape, dtype=case.dtype) for shape in case.shapes]
    layer = case.make()
    many = len(inputs) > 1
    if isinstance(layer, L.MultiHeadAttention):
        outputs = layer(*inputs)
    else:
        outputs = layer(inputs if many else inputs[0])
    model = keras.Model(inputs if many else inputs[0], outputs)
    randomize(model)
    return model


def randomize(model):
    """Give a model weights that tell all of its variables apart."""
    random = np.random.default_rng(5)
    for variable in model.weights:
        if "normalization/" not in variable.path or "moving" in variable.path:
            values = random.uniform(0.2, 1.0, variable.shape)
            variable.assign(values * random.choice([-1, 1], variable.shape))
            if "variance" in variable.path:
                variable.assign(values)


def data_for(case, batch=3):
    random = np.random.default_rng(7)
    found = []
    for shape in case.shapes:
        shape = (batch, *shape)
        if case.dtype == "float32":
            found.append(random.normal(size=shape).astype("float32"))
        elif case.dtype == "int32":
            found.append(random.integers(0, 4, shape).astype("int32"))
        else:
            found.append(random.choice(["1", "c", "zz"], shape).tolist())
    if case.dtype == "string":
        import tensorflow as tf

        found = [tf.constant(part) for part in found]
    return found if len(found) > 1 else found[0]
