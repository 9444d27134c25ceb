import keras
import numpy as np
import pytest
from keras import layers

import kopt
from kopt.export import ConversionError, Interpreter, VerificationError, _conversion


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.tflite"


@pytest.fixture
def rows(random):
    return random.normal(size=(200, 8)).astype("float32")


@pytest.fixture
def heads():
    """An input; boxes in pixels, scores from 0 to 1, and boxes from 0 to 1."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8,))
    hidden = layers.Dense(16, activation="relu")(inputs)
    unit = layers.Dense(4, activation="sigmoid", name="boxes")(hidden)
    scores = layers.Dense(3, activation="sigmoid", name="scores")(hidden)
    return inputs, layers.Rescaling(640.0, name="pixels")(unit), scores, unit


@pytest.fixture
def detector(heads):
    inputs, boxes, scores, _ = heads
    return keras.Model(inputs, layers.Concatenate(name="joined")([boxes, scores]))


def quantized(detector, rows):
    """The detector, quantized: the join says what it does to the scores."""
    with pytest.warns(UserWarning, match="bits for input 1"):
        return kopt.quantization.quantize_model(detector, calibration_data=rows)


@pytest.fixture
def offset():
    """A network of three logits, of which the first is 300 larger than the others."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(32, activation="relu", name="hidden"),
            layers.Dense(3, name="logits"),
        ]
    )
    model.layers[-1].bias.assign([300.0, 0.0, 0.0])
    return model


def test_scores_beside_boxes_in_pixels_are_refused_with_the_layer(detector, rows, path):
    with pytest.raises(VerificationError, match="channels 4-6") as caught:
        kopt.export.tflite(detector, path, "int8", rows)
    part = caught.value.report.worst_part
    assert (part.kind, part.layer, part.places) == ("lost", "scores", (4, 5, 6))
    for help in ("0..1", "output of their own", 'float_layers=["scores"]'):
        assert help in str(caught.value)
    assert not path.exists()


@pytest.mark.parametrize("way", ["one scale", "outputs of their own", "float layer"])
def test_each_advice_helps(heads, detector, rows, path, way):
    inputs, boxes, scores, unit = heads
    options = {}
    if way == "one scale":
        detector = keras.Model(inputs, layers.Concatenate()([unit, scores]))
    elif way == "outputs of their own":
        detector = keras.Model(inputs, [boxes, scores])
    else:
        options = {"float_layers": ["scores"]}
    report = kopt.export.tflite(detector, path, "int8", rows, **options)
    assert report.verified and not report.worst_part
    found = Interpreter(path).predict(rows)
    found = found["scores"] if isinstance(found, dict) else found[:, 4:]
    assert np.unique(found).size > 50


@pytest.mark.parametrize("aware", [False, True])
def test_logits_beside_an_offset_of_one_are_refused(offset, rows, path, aware):
    options = {"verify": rows}
    if aware:
        kopt.quantization.quantize_model(offset, calibration_data=rows)
    else:
        options |= {"quantization": "int8", "representative_data": rows}
    with pytest.raises(VerificationError, match="bits left") as caught:
        kopt.export.tflite(offset, path, **options)
    (found,) = caught.value.report.differences.values()
    assert {place for part in found.faults for place in part.places} == {1, 2}
    assert {part.layer for part in found.faults} == {"logits"}
    assert all(part.bits < 3 for part in found.faults)


@pytest.mark.parametrize("way", ["outputs", "float layer", "aware float layer"])
def test_the_advice_for_an_offset_helps(offset, rows, path, way):
    options = {"quantization": "int8", "representative_data": rows}
    if way == "outputs":
        kernel, bias = offset.layers[-1].get_weights()
        heads = [layers.Dense(1, name="first"), layers.Dense(2, name="others")]
        hidden = offset.layers[0].output
        offset = keras.Model(offset.inputs, [head(hidden) for head in heads])
        for head, chosen in zip(heads, (slice(1), slice(1, 3)), strict=True):
            head.set_weights([kernel[:, chosen], bias[chosen]])
    elif way == "float layer":
        options["float_layers"] = ["logits"]
    else:
        config = kopt.quantization.Int8(float_layers=["logits"])
        kopt.quantization.quantize_model(offset, config, rows)
        options = {"verify": rows}
    expected = offset.predict(rows, verbose=0)
    assert kopt.export.tflite(offset, path, **options).verified
    found = Interpreter(path).predict(rows)
    if way == "outputs":
        expected, found = expected[1], found["others"]
    else:
        expected, found = expected[:, 1:], found[:, 1:]
    assert np.abs(expected - found).max() < 0.1 * expected.std()


@pytest.fixture
def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(16, activation="relu", name="hidden"),
            layers.Dense(3, name="logits"),
        ]
    )


def test_the_advice_for_values_that_are_cut_off_helps(network, rows, path):
    with pytest.raises(VerificationError, match="take samples that do") as caught:
        kopt.export.tflite(network, path, "int8", 0.2 * rows, verify=rows)
    assert caught.value.report.worst_part.kind == "cut off"
    assert kopt.export.tflite(network, path, "int8", rows, verify=rows).verified


def test_the_advice_for_a_constant_output_helps(network, rows, path):
    network.layers[0].bias.assign(np.full(16, 10.0))
    kopt.quantization.quantize_model(network, calibration_data=rows)
    network.layers[0].quantizer.ranges["output"].set_range(0.0, 1.0)
    # The file is what the model is; both are constant where float varies.
    with pytest.raises(VerificationError, match="the same for every sample") as caught:
        kopt.export.tflite(network, path, verify=rows)
    assert caught.value.report.worst_part.kind == "constant"
    assert "quantization_report(model, data)" in str(caught.value)
    report = kopt.quantization.quantization_report(network, rows)
    assert "constant" in str(report["hidden"])
    assert "constant" not in str(report["logits"])
    kopt.quantization.calibrate(network, rows)
    assert kopt.export.tflite(network, path, verify=rows).verified


def test_an_output_taken_from_a_join_has_the_grid_of_the_join(heads, rows, path):
    inputs, boxes, scores, _ = heads
    joined = layers.Concatenate()([boxes, scores])
    model = keras.Model(inputs, {"boxes": joined[:, :4], "scores": joined[:, 4:]})
    with pytest.raises(VerificationError, match="coarse, all of it") as caught:
        kopt.export.tflite(model, path, "int8", rows)
    assert "grid of a much larger tensor" in str(caught.value)
    model = keras.Model(inputs, {"boxes": joined[:, :4], "scores": scores})
    assert kopt.export.tflite(model, path, "int8", rows).verified


def test_places_of_a_sequence_are_refused_as_channels_are(heads, rows, path):
    inputs, boxes, scores, _ = heads
    columns = [layers.Reshape((4, 1))(boxes), layers.Reshape((3, 1))(scores)]
    model = keras.Model(inputs, layers.Concatenate(axis=1)(columns))
    with pytest.raises(VerificationError, match="places on axis 1: 4-6") as caught:
        kopt.export.tflite(model, path, "int8", rows)
    assert caught.value.report.worst_part.layer == "scores"


def test_two_targets_of_one_layer_with_different_units_are_refused(rows, path):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(2, name="targets")])
    kernel, bias = model.get_weights()
    model.set_weights([kernel * np.array([1e4, 1.0]), bias])
    with pytest.raises(VerificationError, match="channel 1") as caught:
        kopt.export.tflite(model, path, "int8", rows)
    assert caught.value.report.worst_part.layer == "targets"


def test_one_output_of_several_is_enough(heads, rows, path):
    inputs, boxes, scores, unit = heads
    model = keras.Model(
        inputs, [unit, layers.Concatenate(name="both")([boxes, scores])]
    )
    with pytest.raises(VerificationError, match="both: max") as caught:
        kopt.export.tflite(model, path, "int8", rows)
    passed = {name: d.passed for name, d in caught.value.report.differences.items()}
    assert passed == {"boxes": True, "both": False}


def test_what_a_quantized_model_lost_itself_is_refused_too(detector, rows, path):
    quantized(detector, rows)
    with pytest.raises(VerificationError, match="in the model already") as caught:
        kopt.export.tflite(detector, path, verify=rows)
    assert caught.value.report.worst_part.layer == "scores"


def test_nobody_is_told_to_quantize_what_is_quantized(detector, rows, path):
    quantized(detector, rows)
    with pytest.raises(VerificationError) as caught:
        kopt.export.tflite(detector, path, verify=rows)
    assert "quantize the model first" not in str(caught.value)
    assert "kopt.quantization.calibrate" in str(caught.value)


@pytest.mark.parametrize("mode", [None, "float16", "dynamic", "int16x8"])
def test_finer_files_of_the_same_model_are_right(detector, rows, path, mode):
    data = rows if mode == "int16x8" else None
    assert kopt.export.tflite(detector, path, mode, data, verify=rows).verified


def test_a_thousand_small_probabilities_are_right(rows, path):
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(1000, activation="softmax")]
    )
    assert kopt.export.tflite(model, path, "int8", rows).verified


def test_a_class_that_hardly_occurs_is_right_beside_others(heads, rows, path):
    inputs, _, scores, unit = heads
    rare = layers.Dense(1, activation="sigmoid", bias_initializer=_far_below)(unit)
    model = keras.Model(inputs, layers.Concatenate()([unit, scores, rare]))
    assert kopt.export.tflite(model, path, "int8", rows).verified


def test_a_rare_class_is_right_where_it_is_taken_out(heads, rows, path):
    inputs, _, _, unit = heads
    classes = layers.Dense(40, activation="softmax", bias_initializer=_rare)(unit)
    model = keras.Model(inputs, classes[:, :3])
    report = kopt.export.tflite(model, path, "int8", rows)
    assert report.verified and report.max_lsb < 2


def _rare(shape, dtype=None):
    return keras.ops.concatenate([keras.ops.full((3,), -4.0), keras.ops.zeros((37,))])


def _far_below(shape, dtype=None):
    return keras.ops.full(shape, -9.0, dtype)


def test_a_report_shows_the_worst_part(detector, rows, path):
    with pytest.raises(VerificationError) as caught:
        kopt.export.tflite(detector, path, "int8", rows)
    text = str(caught.value.report)
    assert "worst part of joined" in text and "(layer 'scores')" in text


def test_the_report_of_a_quantized_model_names_lost_channels(detector, rows):
    quantized(detector, rows)
    report = kopt.quantization.quantization_report(detector, rows)
    (output,) = [one for one in report["joined"].ranges if one.role == "output"]
    assert output.parts[0].kind == "lost" and output.parts[0].places == (4, 5, 6)
    assert "lost: channels 4-6" in str(report)
    assert not report["boxes"].ranges[-1].parts


def test_sensitivity_names_the_part_that_a_layer_costs(detector, rows):
    quantized(detector, rows)
    report = kopt.quantization.sensitivity(detector, rows)
    parts = {one.name: one.parts for one in report.layers}
    assert parts["joined"][0].places == (4, 5, 6)
    assert not parts["boxes"]


def test_every_report_names_channels_beside_an_offset(offset, rows):
    kopt.quantization.quantize_model(offset, calibration_data=rows)
    report = kopt.quantization.quantization_report(offset, rows)
    faults = [one for one in report["logits"].ranges[-1].parts if one.fault]
    assert {place for part in faults for place in part.places} == {1, 2}
    costs = {
        one.name: one for one in kopt.quantization.sensitivity(offset, rows).layers
    }
    assert "bits left" in str(costs["logits"])
    assert not costs["hidden"].parts


def test_a_refusal_without_a_reason_says_so_and_what_to_try(
    detector, path, monkeypatch
):
    class Silent:
        def convert(self):
            raise RuntimeError

    monkeypatch.setattr(_conversion, "_converter", lambda *arguments: Silent())
    with pytest.raises(ConversionError, match="gave no reason") as caught:
        kopt.export.tflite(detector, path)
    assert "isolate=True" in str(caught.value)


def test_the_advice_for_an_error_that_stands_out_helps(rows, path):
    keras.utils.set_random_seed(0)
    inner = layers.Dense(8, use_bias=False, name="inner")
    outer = layers.Dense(4, use_bias=False, name="outer")
    model = keras.Sequential(
        [keras.Input((8,)), inner, outer, layers.ReLU(), layers.Dense(4, name="last")]
    )
    # Two inner values are nearly the same, and one outer value is their difference.
    kernel = np.eye(8)
    kernel[:, 1] = kernel[:, 0]
    kernel[2, 1] = 0.05
    inner.kernel.assign(kernel)
    outer.kernel.assign(np.vstack([[[0, 0, 0, 20], [0, 0, 0, -20]], np.eye(8, 4)[:6]]))
    model.layers[-1].kernel.assign(np.eye(4))
    options = {"quantization": "int8", "representative_data": rows, "verify": rows}
    with pytest.raises(VerificationError, match=r"stands out.*sensitivity") as caught:
        kopt.export.tflite(model, path, **options)
    assert caught.value.report.worst_part.kind == "outstanding"
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    kopt.quantization.quantize_model(copy, calibration_data=rows)
    chosen = kopt.quantization.sensitivity(copy, rows).suggestion()
    assert set(chosen) == {"inner", "outer"}
    assert kopt.export.tflite(model, path, **options, float_layers=chosen).verified
