"""Layers that stay float in a file of 8-bit integers."""

import keras
import numpy as np
import pytest
from keras import layers

import kopt
from kopt.export import ConversionError, Interpreter, VerificationError, tflite


@pytest.fixture
def rows():
    """100 samples of 6 numbers."""
    return np.random.default_rng(0).normal(size=(100, 6)).astype("float32")


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(60, 8, 8, 3)).astype("float32")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "m.tflite"


@pytest.fixture
def mlp():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="relu", name="first"),
            layers.Dense(8, activation="relu", name="middle"),
            layers.Dense(3, name="head"),
        ]
    )


@pytest.fixture
def cnn():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, use_bias=False, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.Conv2D(5, 3, name="last"),
        ]
    )


def computed(path, kind):
    """The types that the operations of one kind return, in the file's order."""
    contents = Interpreter(path).contents
    return [
        contents.tensors[one.outputs[0]].dtype
        for one in contents.operations
        if one.name == kind
    ]


@pytest.mark.parametrize(
    ("chosen", "types", "io_dtype"),
    [
        ("middle", ["int8", "float32", "int8"], "float32"),
        (["first", "head"], ["float32", "int8", "float32"], "int8"),
    ],
)
def test_only_the_named_layers_are_computed_in_float(
    mlp, rows, path, chosen, types, io_dtype
):
    report = tflite(mlp, path, "int8", rows, io_dtype, float_layers=chosen)
    assert computed(path, "FULLY_CONNECTED") == types
    assert set(report.inputs.values()) == set(report.outputs.values()) == {io_dtype}
    assert report.argmax_agreement > 0.95


def test_the_weights_of_the_layer_are_stored_as_they_are(mlp, rows, path):
    tflite(mlp, path, "int8", rows, float_layers=[mlp.get_layer("middle")])
    stored = [one.data for one in Interpreter(path).tensors if one.shape == (8, 8)]
    np.testing.assert_array_equal(stored, [mlp.get_layer("middle").kernel.numpy().T])


def test_the_report_names_the_layers(mlp, rows, path):
    report = tflite(mlp, path, "int8", rows, float_layers="m.*|head")
    assert [name.split("/")[-1] for name in report.float_layers] == ["middle", "head"]
    assert "layers kept in float" in str(report)


def test_what_sensitivity_suggests_gives_the_lost_accuracy_back(mlp, rows, path):
    kernel, bias = mlp.get_layer("first").get_weights()
    kernel[:, 0], bias[0] = 0.0, -1.0
    mlp.get_layer("first").set_weights([kernel, bias])
    # Never used, but the 8 bits of every channel have to reach that far.
    kernel, bias = mlp.get_layer("middle").get_weights()
    kernel[0] = 300.0
    mlp.get_layer("middle").set_weights([kernel, bias])
    copy = keras.models.clone_model(mlp)
    copy.set_weights(mlp.get_weights())
    kopt.quantization.quantize_model(copy, calibration_data=rows)
    fragile = kopt.quantization.sensitivity(copy, rows).suggestion(0.05)
    assert "middle" in fragile
    with pytest.raises(VerificationError):
        tflite(mlp, path, "int8", rows)
    report = tflite(mlp, path, "int8", rows, float_layers=fragile)
    assert report.argmax_agreement >= 0.99
    assert "int8" in computed(path, "FULLY_CONNECTED")


def test_layer_normalizations_of_a_convnext_block_are_islands(images, path):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 2, strides=2)(inputs)
    x = layers.LayerNormalization(epsilon=1e-6, name="stem_norm")(x)
    y = layers.DepthwiseConv2D(3, padding="same")(x)
    y = layers.LayerNormalization(epsilon=1e-6, name="block_norm")(y)
    y = layers.Dense(8)(layers.Dense(16, activation="gelu")(y))
    model = keras.Model(inputs, layers.Add()([x, y]))
    norms = [layers.LayerNormalization]
    report = tflite(model, path, "int8", images, float_layers=norms)
    assert report.float_layers == ("stem_norm", "block_norm")
    for kind in ["RSQRT", "SQUARED_DIFFERENCE"]:
        assert computed(path, kind) == ["float32", "float32"]
    for kind in ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "GELU"]:
        assert set(computed(path, kind)) == {"int8"}


@pytest.mark.slow
def test_a_float_normalization_sees_inputs_of_every_size(rows, path):
    sizes = 10.0 ** np.random.default_rng(1).uniform(-3, 0, size=(100, 1))
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.LayerNormalization(epsilon=1e-9, name="norm"),
            layers.Dense(3),
        ]
    )
    with pytest.raises(VerificationError) as plain:
        tflite(model, path, "int8", rows * sizes)
    report = tflite(model, path, "int8", rows * sizes, float_layers="norm")
    assert report.mean_lsb < 2 < 0.1 * plain.value.report.mean_lsb


@pytest.mark.slow
def test_a_convolution_takes_what_is_fused_to_it_along(cnn, images, path):
    tflite(cnn, path, "int8", images, float_layers=["conv"])
    assert computed(path, "CONV_2D") == ["float32", "int8"]


def test_an_operation_with_several_results_is_float_too(rows, path):
    class Gate(layers.Layer):
        def call(self, x):
            first, second = keras.ops.split(x, 2, axis=-1)
            return first * second

    gated = [keras.Input((6,)), layers.Dense(8), Gate(name="gate"), layers.Dense(3)]
    tflite(keras.Sequential(gated), path, "int8", rows, float_layers="gate")
    assert computed(path, "SPLIT") == computed(path, "MUL") == ["float32"]
    assert set(computed(path, "FULLY_CONNECTED")) == {"int8"}


@pytest.mark.slow
def test_models_inside_of_models_and_layers_that_are_called_twice(rows, path):
    inner = keras.Sequential(
        [keras.Input((6,)), layers.Dense(6), layers.Dropout(0.1), layers.Dense(6)],
        name="inner",
    )
    twice = layers.Dense(6, name="twice")
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(3)(inner(twice(twice(inputs)))))
    tflite(model, path, "int8", rows, float_layers="inner")
    expected = ["int8", "int8", "float32", "float32", "int8"]
    assert computed(path, "FULLY_CONNECTED") == expected
    tflite(model, path, "int8", rows, float_layers=["inner/.*", twice])
    assert computed(path, "FULLY_CONNECTED") == ["float32"] * 4 + ["int8"]


@pytest.mark.slow
def test_a_subclassed_model(rows, path):
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.head = layers.Dense(8), layers.Dense(3)

        def call(self, x):
            return self.head(keras.ops.relu(self.hidden(x)))

    model = Model()
    model(rows)
    tflite(model, path, "int8", rows, float_layers=[model.head])
    assert computed(path, "FULLY_CONNECTED") == ["int8", "float32"]


def test_the_model_is_left_as_it_is(mlp, rows, path):
    before = mlp.predict(rows, verbose=0)
    tflite(mlp, path, "int8", rows, float_layers=["middle", "mid.*"])
    assert "call" not in vars(mlp.get_layer("middle"))
    np.testing.assert_array_equal(mlp.predict(rows, verbose=0), before)


@pytest.mark.slow
def test_in_a_process_of_its_own(mlp, rows, path):
    report = tflite(mlp, path, "int8", rows, isolate=True, float_layers="middle")
    assert report.isolated
    assert computed(path, "FULLY_CONNECTED") == ["int8", "float32", "int8"]


class TestRefusals:
    def test_a_name_that_fits_no_layer(self, mlp, rows, path):
        expected = (
            r"`float_layers` must be.*'midle', which fits none of: .*first, middle"
        )
        with pytest.raises(ValueError, match=expected):
            tflite(mlp, path, "int8", rows, float_layers=["midle"])

    def test_a_class_that_no_layer_has(self, mlp, rows, path):
        with pytest.raises(ValueError, match=r"LayerNormalization.*fits none"):
            tflite(mlp, path, "int8", rows, float_layers=layers.LayerNormalization)

    @pytest.mark.parametrize("mode", [None, "dynamic", "int16x8"])
    def test_other_quantizations(self, mlp, rows, path, mode):
        with pytest.raises(ValueError, match="is for quantization='int8'"):
            tflite(mlp, path, mode, rows, float_layers="middle")

    def test_a_quantization_aware_model(self, mlp, rows, path):
        kopt.quantization.quantize_model(mlp, calibration_data=rows)
        with pytest.raises(ValueError, match="strip_quantization"):
            tflite(mlp, path, "int8", rows, float_layers="middle")

    @pytest.mark.parametrize("wrong", [{"io_dtype": "uint8"}, {"sparse": True}])
    def test_what_the_converter_cannot_do_with_them(self, mlp, rows, path, wrong):
        with pytest.raises(ValueError, match="float32 or int8, and no sparse"):
            tflite(mlp, path, "int8", rows, float_layers="middle", **wrong)

    def test_a_layer_that_is_folded_into_another(self, cnn, images, path):
        with pytest.raises(ConversionError, match="'norm' cannot stay float"):
            tflite(cnn, path, "int8", images, float_layers="norm")
        assert not path.exists()

    def test_the_whole_model(self, mlp, rows, path):
        with pytest.raises(ConversionError, match="leaves nothing to quantize"):
            tflite(mlp, path, "int8", rows, float_layers=".*")
