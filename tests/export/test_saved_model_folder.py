import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt.export import VerificationError, _trace, saved_model_folder


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model"


def test_what_is_loaded_is_called_like_the_model(tiny, images, path):
    kopt.export.saved_model(tiny, path)
    loaded = tf.saved_model.load(path)
    found = loaded.serve(images)
    np.testing.assert_allclose(found, tiny(images), rtol=1e-5, atol=1e-6)


def test_the_signature_takes_and_returns_names(two_by_two, random, path):
    kopt.export.saved_model(two_by_two, path)
    x = {
        name: random.normal(size=(5, 6)).astype("float32") for name in ("wide", "deep")
    }
    loaded = tf.saved_model.load(path)
    found = loaded.signatures["serving_default"](**x)
    zebra, ant = two_by_two.predict(x, verbose=0)
    np.testing.assert_allclose(found["zebra"], zebra, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["ant"], ant, rtol=1e-5, atol=1e-6)


def test_serve_keeps_the_structure_of_the_model(two_by_two, random, path):
    kopt.export.saved_model(two_by_two, path)
    x = [random.normal(size=(5, 6)).astype("float32") for _ in range(2)]
    loaded = tf.saved_model.load(path)
    found = loaded.serve(x)
    expected = two_by_two.predict(x, verbose=0)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch_size", [None, 4])
def test_the_batch_is_open_unless_it_is_fixed(tiny, path, batch_size):
    report = kopt.export.saved_model(tiny, path, batch_size)
    loaded = tf.saved_model.load(path).signatures["serving_default"]
    (spec,) = loaded.structured_input_signature[1].values()
    assert spec.shape[0] == batch_size
    assert report.verified


def test_the_report_says_what_is_on_the_disk(tiny, path):
    report = kopt.export.saved_model(tiny, path)
    files = [entry for entry in path.rglob("*") if entry.is_file()]
    assert report.size_bytes == sum(entry.stat().st_size for entry in files)
    assert report.path == path
    assert report.inputs == {"input": "float32"}
    assert report.outputs == {"scores": "float32"}
    assert report.float_tensors is None and report.latency_ms > 0


def test_a_quantization_aware_model_can_be_served(tiny, images, path):
    model = kopt.quantization.quantize_model(tiny, calibration_data=images)
    kopt.export.saved_model(model, path)
    loaded = tf.saved_model.load(path)
    found = loaded.serve(images)
    np.testing.assert_allclose(found, model(images), rtol=1e-5, atol=1e-6)


def test_random_layers_are_quiet_in_it(path):
    model = keras.Sequential(
        [keras.Input((50,)), keras.layers.Dense(50), keras.layers.Dropout(0.9)]
    )
    assert kopt.export.saved_model(model, path).max_difference < 1e-6


def test_open_sizes_stay_open(path):
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.Dense(2)])
    kopt.export.saved_model(model, path)
    loaded = tf.saved_model.load(path)
    assert loaded.serve(tf.zeros((2, 5, 3))).shape == (2, 5, 2)
    assert loaded.serve(tf.zeros((1, 9, 3))).shape == (1, 9, 2)


def test_another_model_in_the_folder_is_found_out(tiny, images, path, monkeypatch):
    write = _trace.write_saved_model

    def write_other(signature, folder):
        weights = tiny.get_weights()
        tiny.layers[-1].kernel.assign_add(np.full((144, 3), 0.1))
        graph = write(signature, folder)
        tiny.set_weights(weights)
        return graph

    kopt.export.saved_model(tiny, path)
    before = sorted(entry.name for entry in path.rglob("*"))
    monkeypatch.setattr(_trace, "write_saved_model", write_other)
    with pytest.raises(VerificationError, match="scores: max"):
        kopt.export.saved_model(tiny, path, verify=images)
    loaded = tf.saved_model.load(path)
    found = loaded.serve(images)
    np.testing.assert_allclose(found, tiny(images), rtol=1e-5, atol=1e-6)
    assert sorted(entry.name for entry in path.rglob("*")) == before
    assert [entry.name for entry in path.parent.iterdir()] == ["model"]


def test_it_can_be_had_unseen(tiny, path):
    report = kopt.export.saved_model(tiny, path, verify=False)
    assert not report.verified and (path / "saved_model.pb").exists()


def test_samples_are_checked_before_anything_is_written(tiny, path):
    with pytest.raises(ValueError, match=r"\(samples, 8, 8, 1\)"):
        kopt.export.saved_model(tiny, path, verify=np.zeros((4, 8)))
    assert not path.exists()


def test_a_folder_of_other_things_is_refused(tiny, path):
    path.mkdir()
    (path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="holds other things"):
        kopt.export.saved_model(tiny, path)


def test_a_model_without_weights_of_numbers_is_refused(tiny, path):
    tiny.layers[-1].bias.assign([0.0, np.inf, 0.0])
    with pytest.raises(ValueError, match="NaN or infinite"):
        kopt.export.saved_model(tiny, path)
    assert not path.exists()


@pytest.mark.slow
def test_it_loads_where_keras_and_kopt_are_not_imported(tiny, path):
    kopt.export.saved_model(tiny, path)
    program = (
        "import sys, tensorflow as tf\n"
        f"loaded = tf.saved_model.load({str(path)!r})\n"
        "y = loaded.serve(tf.ones((2, 8, 8, 1)))\n"
        "assert y.shape == (2, 3) and 'kopt' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_the_last_batch_of_a_fixed_size_is_cut_again(tiny, images, path):
    kopt.export.saved_model(tiny, path, 4)
    found = saved_model_folder._Serving(path, 4).predict({"input": images[:6]})
    np.testing.assert_allclose(found["scores"], tiny(images[:6]), rtol=1e-5, atol=1e-6)
