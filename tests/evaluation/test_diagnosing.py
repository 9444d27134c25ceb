"""What is wrong with a run, from its history and its monitors."""

import keras
import numpy as np
import pytest

import kopt
from kopt.evaluation import diagnose

OVERFITTED = {
    "loss": [1.0, 0.5, 0.3, 0.2, 0.1, 0.05],
    "val_loss": [1.0, 0.6, 0.7, 0.9, 1.1, 1.3],
}
RANDOM = np.random.default_rng(0)


def fitted(callbacks=(), validation_freq=1, epochs=40):
    """Noise learned by heart."""
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(64, "relu"),
            keras.layers.Dense(1),
        ]
    )
    model.compile(kopt.Adam(0.01), "mse", metrics=["mae"])
    draw = np.random.default_rng(0).normal
    return model.fit(
        draw(size=(32, 8)),
        draw(size=(32, 1)),
        epochs=epochs,
        verbose=0,
        callbacks=list(callbacks),
        validation_data=(draw(size=(32, 8)), draw(size=(32, 1))),
        validation_freq=validation_freq,
    )


@pytest.mark.parametrize("metric", ["loss", "mae"])
def test_a_history_says_what_the_monitor_of_the_run_says(metric):
    monitor = kopt.callbacks.OverfitMonitor(metric)
    history = fitted([monitor])
    (found,) = diagnose(history, metric=metric).diagnoses
    assert found == monitor.diagnosis
    assert diagnose(history.history, metric=metric).diagnoses == (found,)


def test_a_history_of_some_epochs_with_validation_asks_for_the_monitor():
    monitor = kopt.callbacks.OverfitMonitor()
    history = fitted([monitor], validation_freq=3, epochs=8)
    with pytest.raises(ValueError, match="8 values of 'loss' and 2 of validation"):
        diagnose(history)
    assert diagnose(monitor).diagnoses == (monitor.diagnosis,)


def test_history_and_monitors_are_one_report():
    x, y = RANDOM.normal(size=(16, 8)), RANDOM.normal(size=(16, 1))
    monitor = kopt.callbacks.GradientMonitor((x, y), every=1)
    history = fitted([monitor], epochs=3)
    report = diagnose(history, monitor)
    sources = [one.source for one in report.diagnoses]
    assert sources == ["OverfitMonitor", "GradientMonitor"]
    assert diagnose(history, [monitor]) == report
    assert diagnose(monitor).diagnoses == report.diagnoses[1:]
    assert report.findings == sum((one.findings for one in report.diagnoses), ())
    assert monitor.summary() in str(report)


def test_what_is_wrong_is_said_with_what_helps():
    report = diagnose(OVERFITTED)
    (finding,) = report.findings
    assert finding.kind == "overfitting" and finding.since == 2
    assert "since epoch 2" in str(report) and "kopt.AdamW" in str(report)


def test_a_metric_of_which_more_is_better():
    logs = {"score": [0.2, 0.5, 0.7, 0.9, 0.95], "val_score": [0.4, 0.6, 0.5, 0.4, 0.3]}
    (finding,) = diagnose(logs, metric="score", mode="max").findings
    assert finding.kind == "overfitting"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((), ValueError, "nothing to diagnose"),
        (({"loss": [1.0]},), ValueError, "no 'val_loss'. There are: 'loss'"),
        (({},), ValueError, "There are: none"),
        ((3,), TypeError, "`history` must be what `fit` returned"),
        ((None, [keras.callbacks.History()]), TypeError, "`monitors` must be monitors"),
        ((kopt.callbacks.OverfitMonitor(),), ValueError, "seen no epoch"),
    ],
)
def test_what_it_cannot_use_is_an_error_that_says_what_it_can(
    arguments, error, message
):
    with pytest.raises(error, match=message):
        diagnose(*arguments)
