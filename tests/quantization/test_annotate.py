import keras
import numpy as np
import pytest
from keras import layers

from kopt.quantization import (
    QuantizeConfig,
    quantization_report,
    quantize_annotate_layer,
    quantize_annotate_model,
    quantize_apply,
)


class Halves:
    """A quantizer of one's own: multiples of a half."""

    def build(self, tensor_shape, name, layer):
        return {"step": layer.add_weight(f"{name}_step", initializer=lambda shape: 0.5)}

    def __call__(self, inputs, training, weights):
        step = weights["step"]
        rounded = keras.ops.round(inputs / step) * step
        return inputs + keras.ops.stop_gradient(rounded - inputs)

    def get_config(self):
        return {}


class Coarse(QuantizeConfig):
    def get_weights_and_quantizers(self, layer):
        return [(layer.kernel, Halves())]

    def get_output_quantizers(self, layer):
        return [Halves()]


def network(*annotated):
    return keras.Sequential([keras.Input((6,)), *annotated])


def test_only_marked_layers_are_quantized(rows):
    marked = quantize_annotate_layer(layers.Dense(4, name="marked"))
    model = network(marked, layers.Dense(3, name="plain"))
    assert quantize_apply(model, calibration_data=rows) is model
    report = quantization_report(model)
    assert report["marked"].state == "integer"
    assert report["plain"].note == "chosen to stay float"
    assert type(model.layers[1]) is layers.Dense


def test_marking_a_model_marks_all_layers_and_keeps_configs(rows):
    own = quantize_annotate_layer(layers.Dense(4, name="own"), Coarse())
    model = quantize_annotate_model(network(own, layers.Dense(3, name="other")))
    quantize_apply(model, calibration_data=rows)
    report = quantization_report(model)
    assert len(report.integer) == 2
    assert report["own"].ranges[-1].fixed


def test_nothing_marked_is_an_error(mlp):
    with pytest.raises(ValueError, match=r"No layer of 'mlp' is marked"):
        quantize_apply(mlp)


def test_a_model_or_a_config_in_the_wrong_place(mlp):
    with pytest.raises(TypeError, match="quantize_annotate_model"):
        quantize_annotate_layer(mlp)
    with pytest.raises(TypeError, match="get_output_quantizers"):
        quantize_annotate_layer(layers.Dense(2), "int8")


def test_a_quantizer_of_ones_own_rounds_trains_and_comes_back(rows, tmp_path):
    model = network(quantize_annotate_layer(layers.Dense(4, name="own"), Coarse()))
    quantize_apply(model, calibration_data=rows)
    outputs = model.predict(rows, verbose=0)
    np.testing.assert_array_equal(outputs, np.round(2 * outputs) / 2)
    kernel = np.round(2 * model.layers[0].kernel.numpy()) / 2
    np.testing.assert_allclose(outputs, np.round(2 * rows @ kernel) / 2, atol=0.51)
    model.compile("adam", "mse")
    before = model.layers[0].kernel.numpy()
    model.fit(rows, rows[:, :4], verbose=0)
    assert (model.layers[0].kernel.numpy() != before).any()
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(
        again.predict(rows, verbose=0), model.predict(rows, verbose=0)
    )
