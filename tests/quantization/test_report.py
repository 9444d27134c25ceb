import keras
import numpy as np
import pytest
from keras import layers

import kopt
from kopt.quantization import quantization_report, quantize_model
from kopt.quantization.ranges import grid


@pytest.fixture
def report(cnn, images):
    return quantization_report(quantize_model(cnn, calibration_data=images))


def test_every_layer_that_is_called_is_there_in_order(report, cnn):
    assert [one.name.rsplit("/", 1)[-1] for one in report.layers[:-1]] == [
        layer.name for layer in cnn.layers if layer.name != "dropout"
    ]
    assert report.layers[-1].name == "dropout"


def test_weights_are_given_with_bits_and_channels(report):
    weights = {one.name: one.weights for one in report.layers if one.weights}
    described = {name.split("/")[-1]: str(*one) for name, one in weights.items()}
    assert described == {
        "conv": "kernel int8 x 6",
        "depthwise": "kernel int8 x 6",
        "pointwise": "kernel int8 x 5",
        "head": "kernel int8 x 4",
    }


def test_ranges_are_those_of_the_model(report, cnn):
    one = cnn.get_layer("relu").quantizer.ranges["output"]
    (described,) = report["relu"].ranges
    assert described.role == "output"
    assert described.grid == grid(float(one.low.numpy()), float(one.high.numpy()))


def test_notes_say_what_becomes_of_a_layer(report):
    assert report["norm"].note == "computed together with conv"
    assert report["relu6"].note == "computed together with depthwise"
    assert report["pool"].state == "passes"
    assert report["dropout"].note == "hands its input on at inference"
    assert report["conv"].state == "integer"


def test_what_stays_float_is_named_with_the_reason(images):
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.GroupNormalization(2)]
    )
    report = quantization_report(quantize_model(model, calibration_data=images))
    (island,) = report.stays_float
    assert island.layer == "GroupNormalization"
    assert island.note == "its statistics lose too much in 8 bits"
    assert [one.layer for one in report.integer] == ["Conv2D"]


def test_the_table_has_a_line_for_each_layer_and_range(report):
    lines = str(report).splitlines()
    assert lines[0].split() == "layer class computed weights ranges and notes".split()
    assert any("Conv2D" in line and "kernel int8 x 6" in line for line in lines)
    assert any("preactivation int8 [" in line for line in lines)
    assert any("computed together with conv" in line for line in lines)
    assert len(lines) >= 1 + len(report.layers)


def test_a_range_without_calibration_says_so(mlp):
    report = quantization_report(quantize_model(mlp))
    assert str(report["hidden"].ranges[0]) == "input_0 int8 not calibrated"


def test_a_part_that_was_quantized_alone_is_told_from_the_rest(mlp, rows):
    quantize_model(mlp, calibration_data=rows)
    inputs = keras.Input((6,))
    outer = keras.Model(inputs, layers.Dense(2, name="float")(mlp(inputs)))
    report = quantization_report(outer)
    assert (report["float"].state, report["float"].note) == (
        "float",
        "chosen to stay float",
    )
    assert report["hidden"].state == "integer"


def test_a_report_leaves_the_model_as_it_was(cnn, images):
    quantize_model(cnn, calibration_data=images)
    before = cnn(images)
    quantization_report(cnn)
    np.testing.assert_array_equal(cnn(images), before)


def test_a_name_that_is_not_there(report):
    with pytest.raises(KeyError, match="nope"):
        report["nope"]


def test_a_float_model_is_refused(mlp):
    with pytest.raises(ValueError, match="not quantized"):
        quantization_report(mlp)


def test_what_a_training_step_would_cut_off_is_measured(random):
    norm = keras.layers.BatchNormalization()
    model = keras.Sequential([keras.Input((6,)), layers.Dense(8), norm])
    x = 0.01 * random.normal(size=(64, 6)).astype("float32")
    quantize_model(model, calibration_data=x)
    before = [one.numpy() for one in model.variables]
    # The moving statistics are those of no data yet; a batch's make values of size 1.
    (output,) = quantization_report(model, x, training=True)[norm.name].ranges
    assert output.saturation > 0.5
    (output,) = quantization_report(model, x)[norm.name].ranges
    assert output.saturation == 0.0
    for one, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(one, value)


def test_with_data_noise_and_what_is_cut_off_are_measured(mlp, rows):
    quantize_model(mlp, calibration_data=rows)
    report = quantization_report(mlp, rows)
    (first, second) = report["hidden"].ranges
    assert first.saturation == second.saturation == 0.0
    assert 30 < first.sqnr < 60
    assert report["hidden"].weights[0].sqnr > 35
    mlp.get_layer("hidden").quantizer.ranges["input_0"].set_range(-0.5, 0.5)
    narrow = quantization_report(mlp, rows)["hidden"].ranges[0]
    outside = (np.abs(rows) > 0.5).mean()
    assert narrow.saturation == pytest.approx(outside, abs=0.02)
    assert narrow.sqnr < 10
    assert "cut off" in str(narrow)


class TiedScores(keras.layers.Layer):
    """Ends in an operation that no layer computes."""

    def __init__(self, **options):
        super().__init__(**options)
        self.dense = keras.layers.Dense(4)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, inputs):
        hidden = self.dense(inputs)
        return keras.ops.transpose(keras.ops.matmul(hidden, inputs), (0, 2, 1))


def test_an_operation_by_hand_behind_the_last_range_is_reported_as_float(random):
    inputs = keras.Input((4, 4))
    model = keras.Model(inputs, TiedScores(name="tied")(inputs))
    x = random.normal(size=(32, 4, 4)).astype("float32")
    quantize_model(model, calibration_data=x)
    (one,) = quantization_report(model).stays_float
    assert (one.name, one.layer) == ("tied", "TiedScores")
    assert one.note.startswith("no layer computes its result, but") and (
        "MatMul" in one.note
    )


class WithPositions(keras.layers.Layer):
    """Adds to what comes in, and moves it before."""

    def build(self, shape):
        self.positions = keras.layers.Embedding(shape[2], shape[1])
        self.positions.build(None)

    def call(self, inputs):
        moved = keras.ops.transpose(inputs, (0, 2, 1))
        return moved + self.positions(keras.ops.arange(moved.shape[1]))


def test_an_operation_by_hand_on_what_a_model_is_given_is_reported_as_float(
    random, tmp_path
):
    parts = [WithPositions(name="first"), layers.Dense(3, "relu")]
    parts += [WithPositions(name="second"), layers.Dense(2)]
    model = keras.Sequential([keras.Input((4, 5)), *parts], name="sequential")
    x = random.normal(size=(32, 4, 5)).astype("float32")
    quantize_model(model, calibration_data=x)
    (one,) = quantization_report(model).stays_float
    assert one.name == "sequential/first" and "takes the model's input" in one.note
    report = kopt.export.tflite(model, tmp_path / "m.tflite", io_dtype="int8")
    assert report.float_tensors
    assert not [name for name in report.float_tensors if "second" in name]


class WithConstant(keras.Model):
    """Returns a constant, and a result with its gradient stopped."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)
        self.constant = keras.ops.ones((1, 2))

    def call(self, inputs):
        result = keras.ops.stop_gradient(self.dense(inputs))
        return {"result": result, "constant": self.constant}


def test_what_is_returned_without_being_computed_is_not_reported_as_float(random):
    model, x = WithConstant(), random.normal(size=(32, 3)).astype("float32")
    model(x)
    quantize_model(model, calibration_data=x)
    assert quantization_report(model, x).stays_float == ()
