import keras
import numpy as np

from kopt.quantization import is_quantized, quantize_model, strip_quantization


def test_a_stripped_model_is_the_float_model_to_the_bit(cnn, images, tmp_path):
    exact = cnn.predict(images, verbose=0)
    config = cnn.get_config()
    variables = [id(one) for one in cnn.variables]
    classes = [type(layer) for layer in cnn.layers]
    quantize_model(cnn, calibration_data=images)
    assert strip_quantization(cnn) is cnn
    assert not is_quantized(cnn)
    assert [type(layer) for layer in cnn.layers] == classes
    assert [id(one) for one in cnn.variables] == variables
    assert cnn.get_config() == config
    np.testing.assert_array_equal(cnn.predict(images, verbose=0), exact)
    cnn.save(tmp_path / "float.keras")
    again = keras.saving.load_model(tmp_path / "float.keras")
    np.testing.assert_array_equal(again.predict(images, verbose=0), exact)


def test_a_stripped_model_can_be_quantized_again_to_the_same(cnn, images):
    once = quantize_model(cnn, calibration_data=images)(images)
    strip_quantization(cnn)
    again = quantize_model(cnn, calibration_data=images)(images)
    np.testing.assert_array_equal(again, once)


def test_a_float_model_comes_back_as_it_is(mlp):
    assert strip_quantization(mlp) is mlp
