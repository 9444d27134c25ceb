import keras
import numpy as np
import pytest

import kopt
from kopt.evaluation import compare, measure


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture
def model():
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])


@pytest.fixture
def x(random):
    return random.normal(size=(80, 6)).astype("float32")


def test_a_model_agrees_with_itself(model, x):
    found = compare(model, model, x)
    assert found.agreement == 1.0 and found.max_difference == 0.0


def test_agreement_is_the_share_of_equal_answers(model, x):
    other = keras.models.clone_model(model)
    expected = model.predict(x, verbose=0), other.predict(x, verbose=0)
    found = compare(model, other, x)
    same = np.mean(expected[0].argmax(1) == expected[1].argmax(1))
    assert 0 < same < 1 and found.agreement == pytest.approx(same)
    error = np.abs(expected[0] - expected[1])
    assert found.max_difference == pytest.approx(error.max(), rel=1e-5)
    assert found.mean_difference == pytest.approx(error.mean(), rel=1e-5)


def test_both_sides_are_measured(model, x, random, tmp_path):
    y = random.integers(0, 3, 80)
    path = tmp_path / "model.tflite"
    kopt.export.tflite(model, path, "int8", x)
    found = compare(model, path, (x, y))
    assert found.before.metrics == measure(model, (x, y)).metrics
    assert found.after.metrics == measure(path, (x, y)).metrics
    assert found.after.size_bytes == path.stat().st_size


def test_outputs_are_matched_by_name(random, tmp_path):
    inputs = keras.Input((6,))
    outputs = [keras.layers.Dense(3, name=name)(inputs) for name in ("zebra", "ant")]
    model = keras.Model(inputs, outputs)
    path = tmp_path / "model.tflite"
    kopt.export.tflite(model, path)
    found = compare(model, path, random.normal(size=(40, 6)))
    assert found.agreement == 1.0 and found.max_difference < 1e-5


def test_single_values_have_no_agreement(random):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    found = compare(model, model, random.normal(size=(10, 6)))
    assert found.agreement is None and found.mean_difference == 0.0


def test_without_data_sizes_are_compared(model):
    found = compare(model, model)
    assert found.agreement is None and found.max_difference is None
    assert found.before.size_bytes == found.after.size_bytes


def test_the_table_shows_scores_as_differences_and_costs_as_ratios(model, x, random):
    y = model.predict(x, verbose=0).argmax(1)
    worse = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    worse.set_weights([np.zeros((6, 3)), np.array([1.0, 0.0, 0.0])])
    text = str(compare(model, worse, (x, y)))
    lines = {
        line.split("│")[1].strip(): line for line in text.splitlines() if "│" in line
    }
    share = np.mean(y == 0)
    assert f"{share - 1:+.4f}" in lines["accuracy"]
    assert "+100.0%" in lines["sparsity"]
    assert "x 1.00" in lines["size (KB)"]
    assert f"{share:.2%}" in lines["same answer"]


def test_models_of_different_tasks_are_refused(model, x):
    other = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    with pytest.raises(ValueError, match="different outputs"):
        compare(model, other, x)
