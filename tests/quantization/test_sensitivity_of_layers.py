import keras
import numpy as np
import pytest
from keras import layers

import kopt
from kopt.quantization import Int4Weights, Int8, quantize_model, sensitivity


@pytest.fixture
def calibrated(rows):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(16, activation="relu", name="good"),
            layers.Dense(16, activation="relu", name="bad"),
            layers.Dense(3, name="head"),
        ]
    )
    quantize_model(model, calibration_data=rows)
    # A range that cuts nearly everything off.
    model.get_layer("bad").quantizer.ranges["output"].set_range(0.0, 1e-3)
    return model


def test_the_layer_that_costs_most_comes_first(calibrated, rows):
    report = sensitivity(calibrated, rows)
    assert report.layers[0].name == "bad"
    assert report.layers[0].loss > 0.1 > report.layers[1].loss
    assert report.layers[0].sqnr < 10 < report.layers[1].sqnr
    assert report.float_score == 1.0
    assert report.quantized_score < 0.9
    # Who takes it in would round the same tensor.
    assert report.suggestion(0.1) == ("bad", "head")
    assert report.suggestion(1.0) == ()
    assert "bad" in str(report).splitlines()[1]


def test_the_model_is_left_as_it_is(calibrated, rows):
    before = calibrated.predict(rows, verbose=0)
    sensitivity(calibrated, rows)
    np.testing.assert_allclose(calibrated(rows), before, atol=1e-5)


def test_labels_and_a_score_of_ones_own(calibrated, rows):
    y = np.arange(64) % 3
    report = sensitivity(calibrated, (rows, y))
    assert 0.0 <= report.float_score <= 0.7
    own = sensitivity(calibrated, (rows, y), score=lambda y, outputs: 5.0)
    assert own.float_score == 5.0
    assert all(one.loss == 0.0 for one in own.layers)


def test_suggested_layers_help_a_model_of_4_bits(rows):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), layers.Dense(8), layers.Dense(3)])
    weights = model.get_weights()
    quantize_model(model, Int4Weights(), rows)
    report = sensitivity(model, (rows, rows[:, :3]), lambda y, z: -np.abs(y - z).max())
    assert {one.name for one in report.layers} == {one.name for one in model.layers}
    assert len(weights) == 4


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_one_output_of_two_classes_is_scored_by_accuracy(activation, rows):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), layers.Dense(1, activation)])
    kind = (model.predict(rows, verbose=0) > (0.5 if activation else 0.0)).astype(int)
    quantize_model(model, calibration_data=rows)
    assert sensitivity(model, (rows, kind)).float_score == 1.0
    assert sensitivity(model, (rows, 1 - kind.ravel())).float_score == 0.0


@pytest.fixture
def lopsided():
    """A model that joins a tensor with one that is a thousand times as large."""
    keras.utils.set_random_seed(0)
    x = keras.Input((6,))
    small = layers.Dense(4, name="small")(x)
    large = layers.Rescaling(1000.0, name="large")(layers.Dense(4, name="inner")(x))
    joined = layers.Concatenate(name="join")([small, layers.Reshape((4,))(large)])
    first = layers.Dense(8, name="first")
    model = keras.Model(x, layers.Dense(3, name="last")(first(joined)))
    kernel = first.kernel.numpy()
    kernel[4:] *= 1e-3
    first.kernel.assign(kernel)
    return model


@pytest.mark.filterwarnings("ignore:Tensors of very different size")
def test_a_join_is_suggested_with_the_layers_around_it(lopsided, rows):
    quantize_model(lopsided, calibration_data=rows)
    report = sensitivity(lopsided, rows)
    assert report.layers[0].name == "join"
    assert set(report.suggestion()[:4]) == {"join", "small", "large", "first"}


@pytest.mark.filterwarnings("ignore:Tensors of very different size")
def test_the_suggestion_for_a_join_helps_where_the_join_alone_does_not(
    lopsided, rows, tmp_path
):
    choice = lopsided.predict(rows, verbose=0).argmax(-1)

    def agreement(*float_layers):
        model = keras.models.clone_model(lopsided)
        model.set_weights(lopsided.get_weights())
        quantize_model(model, Int8(float_layers=float_layers), rows)
        return model, np.mean(model.predict(rows, verbose=0).argmax(-1) == choice)

    model, quantized = agreement()
    suggestion = sensitivity(model, rows).suggestion(0.02)
    assert quantized < 0.7 and agreement("join")[1] < 0.7
    assert agreement(*suggestion)[1] > 0.97
    # So it does in the file of the float model.
    path = tmp_path / "model.tflite"
    kopt.export.tflite(lopsided, path, "int8", rows, float_layers=suggestion)
    found = kopt.export.Interpreter(path).predict(rows)
    assert np.mean(found.argmax(-1) == choice) > 0.97


def test_draws_a_bar_for_each_layer(calibrated, rows):
    pytest.importorskip("matplotlib").use("Agg")
    ax = sensitivity(calibrated, rows).plot()
    assert len(ax.patches) == 3
