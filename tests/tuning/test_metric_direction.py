"""Directions are not compared with a second table: each metric is asked itself."""

import inspect

import keras
import keras_tuner
import numpy as np
import pytest

import kopt

_LABELS = np.array([0, 2, 1, 2, 0, 1])
_ONE_HOT = np.eye(3, dtype="float32")[_LABELS]
_NUMBERS = np.array([[1.0], [2.0], [4.0], [7.0], [8.0], [9.0]], "float32")
_BINARY = np.array([[0.0], [1.0], [1.0], [0.0], [1.0], [0.0]], "float32")

# Per kind of target: the targets, a good prediction and a bad one.
_CASES = [
    (_BINARY, 0.02 + 0.96 * _BINARY, 0.98 - 0.96 * _BINARY),
    (_ONE_HOT, 0.02 + 0.94 * _ONE_HOT, np.roll(0.02 + 0.94 * _ONE_HOT, 1, axis=1)),
    (_LABELS[:, None], 0.02 + 0.94 * _ONE_HOT, 0.98 - 0.94 * _ONE_HOT),
    (_NUMBERS, 1.01 * _NUMBERS, 0.1 * _NUMBERS[::-1]),
    (_BINARY, _BINARY, 1 - _BINARY),
]

_ARGUMENTS = {
    "IoU": {"num_classes": 2, "target_class_ids": [1]},
    "MeanIoU": {"num_classes": 2},
    "OneHotIoU": {"num_classes": 3, "target_class_ids": [1]},
    "OneHotMeanIoU": {"num_classes": 3},
    "PrecisionAtRecall": {"recall": 0.5},
    "RecallAtPrecision": {"precision": 0.5},
    "SensitivityAtSpecificity": {"specificity": 0.5},
    "SpecificityAtSensitivity": {"sensitivity": 0.5},
    "F1Score": {"average": "macro", "threshold": 0.5},
    "FBetaScore": {"average": "macro", "threshold": 0.5},
    "SparseTopKCategoricalAccuracy": {"k": 1},
    "TopKCategoricalAccuracy": {"k": 1},
}
_ABSTRACT = {"Metric", "Mean", "MeanMetricWrapper", "Sum", "Loss", "CTC"}


def _classes(module, base):
    return sorted(
        name
        for name, thing in vars(module).items()
        if inspect.isclass(thing) and issubclass(thing, base) and name not in _ABSTRACT
    )


METRICS = _classes(keras.metrics, keras.metrics.Metric)
# The loss of cosine similarity is its negative, under the name of the metric.
LOSSES = sorted(set(_classes(keras.losses, keras.losses.Loss)) - {"CosineSimilarity"})


def _value(measure, target, prediction):
    if isinstance(measure, keras.metrics.Metric):
        measure.reset_state()
        measure.update_state(target, prediction)
        return float(measure.result())
    return float(measure(target, prediction))


def _observed_direction(measure):
    for target, good, bad in _CASES:
        try:
            of_good = _value(measure, target, good)
            of_bad = _value(measure, target, bad)
        except Exception:  # a kind of target that this metric does not take
            continue
        if np.isfinite([of_good, of_bad]).all() and of_good != of_bad:
            return "max" if of_good > of_bad else "min"
    raise AssertionError(f"no case tells {measure.name} its direction")


@pytest.mark.parametrize("name", METRICS)
def test_direction_is_the_one_in_which_a_metric_of_keras_improves(name):
    metric = getattr(keras.metrics, name)(**_ARGUMENTS.get(name, {}))
    observed = _observed_direction(metric)
    assert kopt.tuning.objective(f"val_{metric.name}").direction == observed


@pytest.mark.parametrize("name", LOSSES)
def test_direction_is_the_one_in_which_a_loss_of_keras_improves(name):
    loss = getattr(keras.losses, name)()
    assert kopt.tuning.objective(f"val_{loss.name}").direction == "min"


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("loss", "min"),
        ("val_acc", "max"),
        ("val_auc_1", "max"),
        ("val_head_accuracy", "max"),
        ("val_age_mae", "min"),
        ("val_weighted_accuracy", "max"),
    ],
)
def test_direction_survives_prefixes_and_numbers(name, direction):
    assert kopt.tuning.objective(name).direction == direction


def test_keras_tuner_gets_f1_wrong_and_kopt_does_not():
    infer = keras_tuner.engine.metrics_tracking.infer_metric_direction
    assert infer("val_f1_score") == "min", "mended upstream: say so in the docs"
    objective = kopt.tuning.objective("val_f1_score")
    assert isinstance(objective, keras_tuner.Objective)
    assert (objective.name, objective.direction) == ("val_f1_score", "max")


def test_unknown_metric_is_an_error_that_says_what_to_write():
    with pytest.raises(ValueError, match=r'objective\(.*direction="max"\)'):
        kopt.tuning.objective("val_profit")
    assert kopt.tuning.objective("val_profit", "max").direction == "max"


def test_direction_has_to_be_min_or_max():
    with pytest.raises(ValueError, match="`direction` must be one of 'min', 'max'"):
        kopt.tuning.objective("val_loss", "up")
