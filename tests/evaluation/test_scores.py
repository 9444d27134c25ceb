import numpy as np
import pytest
from sklearn import metrics

from kopt.evaluation._scores import macro_f1, scores


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("samples", [1, 7, 500])
def test_macro_f1_is_that_of_scikit_learn(random, classes, samples):
    labels, predictions = random.integers(0, classes, (2, samples))
    expected = metrics.f1_score(labels, predictions, average="macro")
    assert macro_f1(labels, predictions) == pytest.approx(expected, abs=1e-12)


def test_classes_that_never_occur_do_not_count(random):
    labels = np.array([0, 0, 7, 7])
    predictions = np.array([0, 3, 7, 7])
    expected = metrics.f1_score(labels, predictions, average="macro")
    assert macro_f1(labels, predictions) == pytest.approx(expected)


@pytest.mark.parametrize("form", ["numbers", "column", "floats", "one-hot"])
def test_labels_of_classes_may_have_any_form(random, form):
    outputs, labels = random.normal(size=(50, 4)), random.integers(0, 4, 50)
    forms = {
        "numbers": labels,
        "column": labels[:, None],
        "floats": labels.astype("float32"),
        "one-hot": np.eye(4)[labels],
    }
    found = scores(forms[form], outputs)
    predictions = outputs.argmax(1)
    assert found["accuracy"] == pytest.approx(
        metrics.accuracy_score(labels, predictions)
    )
    assert found["macro_f1"] == pytest.approx(
        metrics.f1_score(labels, predictions, average="macro")
    )


@pytest.mark.parametrize("scale", ["probabilities", "logits"])
@pytest.mark.parametrize("column", [True, False])
def test_a_single_output_is_yes_or_no(random, scale, column):
    logits, labels = random.normal(size=(60, 1)), random.integers(0, 2, 60)
    outputs = logits if scale == "logits" else 1 / (1 + np.exp(-logits))
    found = scores(labels[:, None] if column else labels, outputs)
    predictions = logits[:, 0] > 0
    assert found["accuracy"] == pytest.approx(np.mean(labels == predictions))
    assert found["macro_f1"] == pytest.approx(
        metrics.f1_score(labels, predictions, average="macro")
    )


def test_several_labels_at_once_are_judged_one_by_one(random):
    labels = random.integers(0, 2, (80, 5))
    labels[:, 4] = 0
    outputs = random.random((80, 5)) * 0.9 + 0.05
    outputs[:, 4] = 0.1
    found, predictions = scores(labels, outputs), outputs > 0.5
    assert found["accuracy"] == pytest.approx(np.mean(labels == predictions))
    assert found["macro_f1"] == pytest.approx(
        metrics.f1_score(labels, predictions, average="macro", zero_division=0)
    )


def test_every_position_of_a_map_is_a_sample(random):
    labels = random.integers(0, 3, (4, 5, 6))
    outputs = random.normal(size=(4, 5, 6, 3))
    expected = metrics.f1_score(
        labels.ravel(), outputs.argmax(-1).ravel(), average="macro"
    )
    assert scores(labels, outputs)["macro_f1"] == pytest.approx(expected)


@pytest.mark.parametrize("column", [True, False])
def test_real_targets_give_errors_in_their_units(random, column):
    targets = random.normal(size=40) * 10
    outputs = targets[:, None] + random.normal(size=(40, 1))
    found = scores(targets[:, None] if column else targets, outputs)
    assert set(found) == {"mae", "rmse"}
    assert found["mae"] == pytest.approx(
        metrics.mean_absolute_error(targets, outputs[:, 0])
    )
    assert found["rmse"] == pytest.approx(
        metrics.root_mean_squared_error(targets, outputs[:, 0])
    )


def test_zeros_and_ones_are_real_targets_on_demand():
    found = scores(np.array([0.0, 1.0]), np.array([[0.2], [0.6]]), "regression")
    assert found["mae"] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 1, 5]), "from 0 to 5, do not fit"),
        (np.array([0, -1, 1]), "from -1 to 1, do not fit"),
        (np.array([0.5, 0.0, 1.0]), "do not fit"),
        (np.array([0, 1]), "2 labels for 3 predictions"),
        (np.zeros((3, 2)), r"shape \(3, 2\) do not fit outputs of the shape \(3, 4\)"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        scores(labels, np.zeros((3, 4)))


def test_class_numbers_are_no_targets_of_a_regression():
    with pytest.raises(ValueError, match="do not fit"):
        scores(np.array([0, 1, 2]), np.zeros((3, 4)), "regression")
