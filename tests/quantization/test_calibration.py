import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from kopt.quantization import calibrate, quantize_model
from kopt.quantization._layer_quantizer import WeightGrid
from tests.reference import quantization as reference


def all_ranges(model):
    return {
        (layer.name, role): (float(one.low.numpy()), float(one.high.numpy()))
        for layer in model.layers
        if hasattr(layer, "quantizer")
        for role, one in layer.quantizer.ranges.items()
    }


def test_min_max_ranges_are_those_of_the_tensors(mlp, rows):
    hidden = keras.Model(mlp.inputs, mlp.layers[0].output)
    quantize_model(mlp)
    calibrate(mlp, rows)
    found = all_ranges(mlp)
    assert found["hidden", "input_0"] == (rows.min(), rows.max())
    kernel = reference.fake_quantize_channels(mlp.layers[0].kernel.numpy())
    exact = np.maximum(rows @ kernel, 0)
    assert found["hidden", "output"] == pytest.approx((0.0, exact.max()), rel=1e-5)
    assert hidden.output.shape == (None, 8)


def test_moving_average_ranges_are_averages_of_the_batches(mlp, rows):
    quantize_model(mlp)
    calibrate(mlp, [rows[:32], rows[32:]], method="ema")
    lows = [rows[:32].min(), rows[32:].min()]
    highs = [rows[:32].max(), rows[32:].max()]
    assert all_ranges(mlp)["hidden", "input_0"] == pytest.approx(
        (
            reference.debiased_average(lows, 0.9),
            reference.debiased_average(highs, 0.9),
        ),
        rel=1e-6,
    )


def test_calibrating_again_starts_afresh(mlp, rows):
    quantize_model(mlp, calibration_data=100 * rows)
    calibrate(mlp, rows)
    assert all_ranges(mlp)["hidden", "input_0"] == (rows.min(), rows.max())


def test_no_statistic_or_seed_of_the_model_moves(cnn, images):
    before = [variable.numpy().copy() for variable in cnn.variables]
    variables = list(cnn.variables)
    quantize_model(cnn, calibration_data=images)
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.path)


def test_prescribed_ranges_are_not_calibrated(rows):
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(4, activation="sigmoid"), layers.Dense(1)]
    )
    quantize_model(model, calibration_data=rows)
    assert all_ranges(model)[model.layers[0].name, "output"] == (0.0, 255 / 256)


def test_ranges_do_not_depend_on_the_size_of_the_batches(cnn, images):
    quantize_model(cnn)
    calibrate(cnn, images)
    once = all_ranges(cnn)
    calibrate(cnn, [images[:5], images[5:]])
    for key, ends in all_ranges(cnn).items():
        assert ends == pytest.approx(once[key], rel=1e-5)


def test_a_tf_function_inside_the_model_is_no_obstacle(rows):
    class Compiled(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, inputs):
            return self.inner(inputs)

        @tf.function
        def inner(self, inputs):
            return self.dense(inputs)

    model = Compiled()
    model.dense.build((None, 6))
    model.built = True
    quantize_model(model, calibration_data=rows)
    low = model.dense.quantizer.ranges["output"].low
    exact = rows @ model.dense.kernel.numpy()
    assert float(low.numpy()) == pytest.approx(exact.min(), rel=0.02)
    assert not tf.config.functions_run_eagerly()
    assert len(np.unique(model.predict(rows, verbose=0))) < 64 * 3


def test_values_inside_that_are_not_finite_name_the_tensor(rows):
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(4), layers.Lambda(lambda x: x / 0.0)]
    )
    model.add(layers.Dense(2, name="last"))
    quantize_model(model)
    with pytest.raises(ValueError, match="'last_input_0' is NaN or infinite"):
        calibrate(model, rows)


def test_after_an_error_ranges_are_as_before(mlp, rows):
    quantize_model(mlp, calibration_data=rows)
    before = all_ranges(mlp)
    bad = [2 * rows, np.full((4, 6), np.nan, "float32")]
    with pytest.raises(ValueError, match="NaN or infinite"):
        calibrate(mlp, bad)
    assert all_ranges(mlp) == before
    assert np.isfinite(mlp.predict(rows, verbose=0)).all()


def test_data_of_the_wrong_shape_are_refused(mlp, rows):
    quantize_model(mlp)
    with pytest.raises(ValueError, match="6"):
        calibrate(mlp, rows[:, :4])


def test_an_unknown_method_lists_those_there_are(mlp, rows):
    quantize_model(mlp)
    with pytest.raises(ValueError, match="minmax"):
        calibrate(mlp, rows, method="magic")


def test_a_float_model_is_refused(mlp, rows):
    with pytest.raises(ValueError, match=r"not quantized.*quantize_model"):
        calibrate(mlp, rows)


def test_a_recurrent_layer_rounds_its_weights_once_for_all_steps(monkeypatch):
    rounded, counts = WeightGrid.fake_quantized, []

    def counting(grid, layer):
        counts[-1] += 1
        return rounded(grid, layer)

    monkeypatch.setattr(WeightGrid, "fake_quantized", counting)
    for steps in (2, 9):
        model = keras.Sequential(
            [keras.Input((steps, 3)), keras.layers.SimpleRNN(4), keras.layers.Dense(2)]
        )
        x = np.random.default_rng(0).normal(size=(40, steps, 3)).astype("float32")
        counts.append(0)
        quantize_model(model, calibration_data=x)
    assert counts[0] == counts[1]


def test_calibration_leaves_the_variables_where_they_belong(mlp, rows):
    quantize_model(mlp, calibration_data=rows)
    for layer in mlp.layers:
        own = {id(variable) for variable in layer.quantizer.variables}
        assert not own & {id(variable) for variable in (layer.kernel, layer.bias)}
