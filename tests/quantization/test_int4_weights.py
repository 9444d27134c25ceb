import keras
import numpy as np
import pytest
from keras import layers

import kopt
from kopt.quantization import Int4Weights, quantize_model

pytestmark = pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")


@pytest.fixture
def network():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(6, 3, use_bias=False, name="conv"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, name="depthwise"),
            layers.Flatten(),
            layers.Dense(8, activation="relu", name="dense"),
            layers.Dense(3, name="head"),
        ]
    )


def test_kernels_have_15_values_a_grid(network, images):
    quantize_model(network, Int4Weights(int8_layers=("head",)), images)
    with kopt.quantization.snapped(network):
        conv = network.get_layer("conv").kernel.numpy()
        dense = network.get_layer("dense").kernel.numpy()
        head = network.get_layer("head").kernel.numpy()
    assert all(len(np.unique(conv[..., one])) <= 15 for one in range(6))
    assert len(np.unique(conv)) > 15
    assert len(np.unique(dense)) <= 15
    assert len(np.unique(head)) > 15


def test_the_file_holds_packed_integers_of_4_bits(network, images, tmp_path):
    quantize_model(network, Int4Weights(int8_layers=("head",)), images)
    path = tmp_path / "m.tflite"
    report = kopt.export.tflite(network, path, verify=images, io_dtype="int8")
    assert report.float_tensors == ()
    assert report.max_lsb < 3.5
    assert not report.isolated
    tensors = kopt.export.Interpreter(path).contents.tensors
    kinds = {one.shape: one.dtype for one in tensors if one.data is not None}
    assert kinds[6, 3, 3, 3] == "int4"
    assert kinds[8, 96] == "int4"
    assert kinds[3, 8] == "int8"
    assert kinds[1, 3, 3, 6] == "int8"
    (stored,) = [x for x in tensors if x.shape == (8, 96) and x.data is not None]
    with kopt.quantization.snapped(network):
        expected = network.get_layer("dense").kernel.numpy().T
    np.testing.assert_allclose(stored.dequantize(stored.data), expected, atol=1e-6)


def test_trains_and_comes_back_from_its_file(network, images, tmp_path):
    quantize_model(network, Int4Weights(), images)
    network.compile("adam", "mse")
    network.fit(images, np.ones((48, 3)), verbose=0)
    network.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(
        again.predict(images, verbose=0), network.predict(images, verbose=0)
    )


def test_layers_can_be_chosen_to_stay_float(network, images):
    quantize_model(network, Int4Weights(float_layers=("conv",)), images)
    report = kopt.quantization.quantization_report(network)
    assert report["conv"].note == "chosen to stay float"
    assert type(network.get_layer("conv")) is layers.Conv2D


def test_a_layer_that_is_not_there_is_an_error(network):
    with pytest.raises(ValueError, match=r"has no 'cnov'.*conv"):
        quantize_model(network, Int4Weights(float_layers=("cnov",)))


def test_a_name_alone_is_an_error():
    with pytest.raises(TypeError, match=r"Write \(name,\)"):
        Int4Weights(float_layers="conv")
