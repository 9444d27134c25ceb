"""Several models in one file, each with a signature of its own."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter as Runtime
from keras import layers

import kopt
from kopt.export import Interpreter


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.tflite"


@pytest.fixture
def pair():
    """An encoder and a decoder that share a layer of 40 x 40 weights."""
    keras.utils.set_random_seed(0)
    shared = layers.Dense(40, activation="relu", name="shared")
    text = keras.Input((40,), name="text")
    code = keras.Input((6,), name="code")
    encoder = keras.Model(text, layers.Dense(6, name="code")(shared(text)))
    wide = layers.Dense(40)(code)
    decoder = keras.Model(code, layers.Dense(3, name="scores")(shared(wide)))
    return {"encode": encoder, "decode": decoder}


@pytest.fixture
def samples(random):
    return {
        "encode": random.normal(size=(40, 40)).astype("float32"),
        "decode": random.normal(size=(40, 6)).astype("float32"),
    }


def test_each_signature_computes_its_model(pair, samples, path):
    report = kopt.export.tflite(pair, path, verify=samples)
    assert report.verified and set(report.signatures) == {"encode", "decode"}
    for name, model in pair.items():
        file = Interpreter(path, signature=name)
        assert file.signatures == ("encode", "decode")
        found = file.predict(samples[name])
        np.testing.assert_allclose(found, np.asarray(model(samples[name])), atol=1e-5)
        assert file.latency(2) > 0
    assert report.inputs == {"encode/text": "float32", "decode/code": "float32"}
    assert "encode/code" in report.differences
    assert "encode, decode" in str(report)


def test_the_report_of_all_holds_the_zeros_of_each(pair, path):
    kernel = pair["decode"].layers[-1].kernel
    kernel.assign(np.zeros(kernel.shape))
    report = kopt.export.tflite(pair, path, verify=False)
    parts = [one.zeros for one in report.signatures.values()]
    # 40 x 40 and 40 x 6; 6 x 40, 40 x 40 and 40 x 3, which are zeros.
    assert report.zeros.weights == 1840 + 1960 == sum(one.weights for one in parts)
    assert report.zeros.zeros == 120
    assert report.zeros.gzip_size_bytes < report.size_bytes


def test_a_plain_runtime_runs_the_signatures(pair, samples, path):
    kopt.export.tflite(pair, path, verify=False)
    runner = Runtime(model_path=str(path)).get_signature_runner("decode")
    (found,) = runner(code=samples["decode"][:1]).values()
    wanted = np.asarray(pair["decode"](samples["decode"][:1]))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_shared_weights_are_stored_once(pair, path, tmp_path):
    whole = kopt.export.tflite(pair, path, verify=False).size_bytes
    alone = [
        kopt.export.tflite(model, tmp_path / f"{name}.tflite", verify=False).size_bytes
        for name, model in pair.items()
    ]
    assert sum(alone) - whole > 0.9 * 40 * 40 * 4


@pytest.mark.slow
def test_each_signature_has_a_quantization_of_its_own(pair, samples, path):
    report = kopt.export.tflite(
        pair,
        path,
        {"encode": "int8"},
        {"encode": samples["encode"]},
        io_dtype={"encode": "int8"},
        batch_size={"decode": 4},
    )
    assert report.verified and report.quantization == "int8 and float32"
    assert report.signatures["encode"].float_tensors == ()
    encoder, decoder = (Interpreter(path, signature=name) for name in pair)
    assert (encoder.inputs[0].dtype, encoder.batch_size) == ("int8", 1)
    assert (decoder.inputs[0].dtype, decoder.batch_size) == ("float32", 4)
    near = np.ptp(np.asarray(pair["encode"](samples["encode"]))) * 5 / 255
    for name, file, atol in (("encode", encoder, near), ("decode", decoder, 1e-5)):
        wanted = np.asarray(pair[name](samples[name]))
        np.testing.assert_allclose(file.predict(samples[name]), wanted, atol=atol)


@pytest.mark.slow
def test_shared_weights_in_integers_are_stored_once(pair, samples, path, tmp_path):
    whole = kopt.export.tflite(pair, path, "int8", samples).size_bytes
    alone = [
        kopt.export.tflite(
            model, tmp_path / f"{name}.tflite", "int8", samples[name]
        ).size_bytes
        for name, model in pair.items()
    ]
    assert sum(alone) - whole > 0.9 * 40 * 40


@pytest.mark.slow
def test_loops_and_state_stay_with_their_signature(random, path):
    looped = keras.Sequential([keras.Input((5, 3)), layers.LSTM(4)])
    other = keras.Sequential([keras.Input((7, 2)), layers.GRU(3)])
    counting = keras.Sequential(
        [
            keras.Input(batch_shape=(1, 1, 2)),
            layers.SimpleRNN(3, stateful=True),
        ]
    )
    models = {"a": looped, "b": other, "c": counting}
    report = kopt.export.tflite(models, path)
    assert report.verified
    x = random.normal(size=(6, 1, 2)).astype("float32")
    wanted = np.concatenate([counting(one[None]) for one in x])
    found = Interpreter(path, signature="c").predict(x)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    with pytest.raises(ValueError, match="a and b keep state"):
        kopt.export.tflite({"a": counting, "b": counting}, path)


def test_constants_are_where_runtimes_can_read_them(pair, path):
    kopt.export.tflite(pair, path, verify=False)
    content = path.read_bytes()
    kernel = pair["encode"].get_layer("shared").kernel.numpy().T
    # As the format asks: numbers of up to 16 bytes are read where they stand.
    assert content.find(np.ascontiguousarray(kernel).tobytes()) % 16 == 0


def test_a_file_of_several_models_asks_which(pair, path):
    kopt.export.tflite(pair, path, verify=False)
    with pytest.raises(ValueError, match="signature='encode'"):
        Interpreter(path).predict(np.zeros((1, 40), "float32"))
    with pytest.raises(ValueError, match="decode"):
        Interpreter(path, signature="translate")


def test_what_does_not_fit_several_models_is_refused(pair, samples, path):
    x = samples["encode"]
    for wrong, message in (
        ({"representative_data": x, "quantization": "int8"}, "dict of data"),
        ({"representative_data": {"text": x}, "quantization": "int8"}, "dict of data"),
        ({"verify": x}, "dict of data"),
        ({"beside_float": True}, "one model"),
    ):
        with pytest.raises(ValueError, match=message):
            kopt.export.tflite(pair, path, **wrong)
    with pytest.raises(TypeError, match="make a model of it"):
        kopt.export.tflite({"call": pair["encode"].call}, path)
    with pytest.raises(ValueError, match="a name for each"):
        kopt.export.tflite({}, path)
    assert not path.exists()


def test_a_model_that_differs_is_named(pair, samples, path, monkeypatch):
    monkeypatch.setattr(Interpreter, "predict", lambda file, x: x["text"][:, :6] + 9)
    only = {"encode": pair["encode"]}
    with pytest.raises(kopt.export.VerificationError, match="encode/code"):
        kopt.export.tflite(only, path, verify={"encode": samples["encode"]})
    assert not path.exists()
