"""A layer in its integer form computes what the layer computes."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers

import kopt
from kopt.quantization import _integer_forms


def normalization(shape, random, **arguments):
    layer = layers.BatchNormalization(**arguments)
    layer.build(shape)
    for variable in layer.variables:
        variable.assign(random.uniform(0.5, 2.0, variable.shape))
    layer.float_class = layers.BatchNormalization
    return layer


@pytest.mark.parametrize("shape", [(5, 4), (5, 3, 4), (5, 6, 7, 4), (2, 3, 3, 3, 4)])
@pytest.mark.parametrize("learned", [True, False])
def test_batch_normalization(random, shape, learned):
    layer = normalization(shape, random, center=learned, scale=learned)
    x = random.normal(size=shape).astype("float32")
    result = _integer_forms.batch_normalization(layer, x, training=False)
    np.testing.assert_allclose(result, layer(x), atol=1e-6)


def test_batch_normalization_in_training_is_the_layers_own(random):
    layer = normalization((5, 4), random)
    x = random.normal(size=(5, 4)).astype("float32")
    result = _integer_forms.batch_normalization(layer, x, training=True)
    np.testing.assert_allclose(
        keras.ops.mean(result, axis=0), layer.beta.numpy(), atol=1e-5
    )


def test_a_frozen_batch_normalization_uses_its_statistics(random):
    layer = normalization((5, 4), random)
    layer.trainable = False
    x = random.normal(size=(5, 4)).astype("float32")
    result = _integer_forms.batch_normalization(layer, x, training=True)
    np.testing.assert_allclose(result, layer(x), atol=1e-6)


@pytest.mark.parametrize(("inputs", "names"), [(2, ()), (4, ("sum_of_2", "sum_of_3"))])
def test_sums_of_more_than_two_have_ranges_between(inputs, names):
    assert _integer_forms.partial_results("sum")(layers.Add(), inputs) == names


ONE_CHANNEL = {
    "Conv1D": lambda: layers.Conv1D(1, 3),
    "relu": lambda: layers.Conv1D(1, 3, activation="relu"),
    "strided": lambda: layers.Conv1D(1, 3, strides=2, padding="same"),
    "dilated": lambda: layers.Conv1D(1, 3, dilation_rate=2),
    "causal": lambda: layers.Conv1D(1, 2, dilation_rate=3, padding="causal"),
    "transposed": lambda: layers.Conv1DTranspose(1, 3),
    "transposed, strided": lambda: layers.Conv1DTranspose(
        1, 3, strides=2, padding="same", output_padding=1
    ),
}


@pytest.mark.parametrize("name", ONE_CHANNEL)
def test_a_convolution_of_one_channel_is_the_layers_own(name, random):
    # TensorFlow's own 1D convolution is the reference.
    layer = ONE_CHANNEL[name]()
    layer.build((None, 12, 4))
    layer.bias.assign([0.7])
    layer.float_class = type(layer)
    vars(layer)["quantizer"] = SimpleNamespace(snapped=True)
    x = random.normal(size=(3, 12, 4)).astype("float32")
    found = _integer_forms.flat_convolution(layer, x)
    np.testing.assert_allclose(found, layer(x), atol=1e-6)


@pytest.mark.parametrize("strides", [1, 2])
def test_a_depthwise_convolution_of_one_channel_is_the_layers_own(strides, random):
    layer = layers.DepthwiseConv1D(3, strides=strides)
    layer.build((None, 12, 1))
    layer.bias.assign([0.7])
    layer.float_class = type(layer)
    vars(layer)["quantizer"] = SimpleNamespace(snapped=True)
    x = random.normal(size=(3, 12, 1)).astype("float32")
    found = _integer_forms.flat_convolution(layer, x)
    np.testing.assert_allclose(found, layer(x), atol=1e-6)


@pytest.mark.parametrize(
    "name",
    ["Conv1D", *[pytest.param(one, marks=pytest.mark.slow) for one in ONE_CHANNEL][1:]],
)
def test_a_convolution_of_one_channel_is_one_of_integers_in_the_file(
    name, random, tmp_path
):
    x = random.normal(size=(60, 12, 4)).astype("float32")
    model = keras.Sequential([keras.Input((12, 4)), ONE_CHANNEL[name]()])
    model.layers[0].bias.assign([0.7])
    kopt.quantization.quantize_model(model, calibration_data=x)
    report = kopt.export.tflite(model, tmp_path / "m.tflite", verify=x)
    assert report.float_tensors == () and report.max_lsb <= 1.01
