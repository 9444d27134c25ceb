"""Layers that the file computes by the runtime's own operation."""

import collections

import keras
import numpy as np
import pytest
from keras import layers

import kopt
from kopt.export._file_contents import read
from kopt.export._runtime_forms import runtime_forms

LAYERS = {
    "square": (lambda: layers.UpSampling2D(), (4, 5, 2)),
    "oblong": (lambda: layers.UpSampling2D((2, 3)), (4, 5, 2)),
    "channels first": (
        lambda: layers.UpSampling2D(data_format="channels_first"),
        (2, 4, 5),
    ),
    "bilinear": (lambda: layers.UpSampling2D(interpolation="bilinear"), (4, 5, 2)),
    "sequences": (lambda: layers.UpSampling1D(3), (5, 2)),
    "embedding": (lambda: layers.Embedding(9, 2), (5,)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_the_runtimes_form_computes_the_same(kind, random):
    make, shape = LAYERS[kind]
    inputs = keras.Input(shape)
    layer = make()
    model = keras.Model(inputs, layer(inputs))
    x = random.integers(0, 9, (3, *shape)).astype("float32")
    exact = np.asarray(model(x))
    with runtime_forms(model):
        np.testing.assert_array_equal(np.asarray(model(x)), exact)
    assert "call" not in vars(layer)


@pytest.mark.parametrize("quantization", [None, "int8"])
def test_upsampling_is_one_resize(quantization, random, tmp_path):
    x = random.normal(size=(40, 4, 4, 3)).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            layers.Conv2D(4, 1),
            layers.UpSampling2D(),
            layers.Conv2D(2, 3),
        ]
    )
    path = tmp_path / "m.tflite"
    data = None if quantization is None else x
    kopt.export.tflite(model, path, quantization, data)
    found = collections.Counter(one.name for one in read(path.read_bytes()).operations)
    assert found["RESIZE_NEAREST_NEIGHBOR"] == 1
    assert not {"TILE", "RESHAPE"} & found.keys()


def test_a_layer_that_computes_something_else_is_left_alone(random):
    class Doubled(layers.UpSampling2D):
        def call(self, inputs):
            return 2.0 * super().call(inputs)

    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, Doubled()(inputs))
    x = random.normal(size=(2, 4, 4, 3)).astype("float32")
    exact = np.asarray(model(x))
    with runtime_forms(model):
        np.testing.assert_array_equal(np.asarray(model(x)), exact)
