"""Training beside validation, and the verdict."""

import keras
import numpy as np
import pytest

import kopt
from kopt.callbacks import OverfitMonitor, _fit_curves

GENERATOR = np.random.default_rng(0)
EPOCHS = np.arange(30)
FALLING = 0.2 + 0.8 * np.exp(-EPOCHS / 8.0)


def told(training, validation, monitor="loss", **arguments):
    """A monitor that was told of some curves, without training."""
    found = OverfitMonitor(monitor, **arguments)
    for epoch, (one, other) in enumerate(zip(training, validation, strict=True)):
        found.on_epoch_end(epoch, {monitor: one, f"val_{monitor}": other})
    return found


def kinds(*arguments, **named):
    return [one.kind for one in told(*arguments, **named).diagnosis.findings]


def rising(begin, slope=0.02):
    """A curve that falls up to an epoch and rises from there."""
    return FALLING[np.minimum(EPOCHS, begin)] + slope * np.maximum(EPOCHS - begin, 0)


def noisy(values, generator):
    return values + generator.normal(size=len(values)) * 0.003


@pytest.mark.parametrize("begin", [4, 10, 20])
@pytest.mark.parametrize("seed", range(5))
def test_it_says_that_it_overfitted_and_since_when(begin, seed):
    generator = np.random.default_rng(seed)
    monitor = told(noisy(FALLING, generator), noisy(rising(begin), generator))
    (finding,) = monitor.diagnosis.findings
    assert finding.kind == "overfitting"
    assert abs(finding.since - (begin + 1)) <= 2
    assert monitor.best_epoch == finding.since - 1
    assert f"since epoch {finding.since}" in monitor.summary()
    assert "weight_decay" in monitor.summary()


def test_accuracies_are_better_the_higher():
    monitor = told(1.0 - FALLING, 1.0 - rising(10), "accuracy")
    assert [one.kind for one in monitor.diagnosis.findings] == ["overfitting"]
    assert monitor.best_epoch == 10
    assert monitor.gap == pytest.approx(rising(10)[-1] - FALLING[-1])


def test_noise_alone_is_no_overfitting():
    flat = np.minimum(FALLING, 1.0)
    for seed in range(20):
        draw = np.random.default_rng(seed).normal(size=(2, 60)) * 0.02
        training = np.concatenate([FALLING, np.full(30, FALLING[-1])]) + draw[0]
        validation = np.concatenate([flat, np.full(30, flat[-1])]) + 0.05 + draw[1]
        assert "overfitting" not in kinds(training, validation)


def test_a_rise_of_both_is_no_overfitting():
    assert "overfitting" not in kinds(rising(10), rising(10) + 0.05)


def test_both_falling_at_the_end_stopped_too_early():
    line = np.linspace(1.0, 0.4, 30)
    monitor = told(line, line + 0.05)
    assert [one.kind for one in monitor.diagnosis.findings] == ["stopped too early"]
    assert "more epochs" in monitor.summary()


def test_a_validation_that_stays_while_training_falls_has_a_gap():
    line = np.linspace(1.0, 0.1, 30)
    assert kinds(line, np.maximum(line, 0.7)) == ["a gap"]


def test_a_training_that_stays_where_it_began_underfits():
    flat = np.full(30, 0.69)
    assert kinds(flat, flat + 0.001) == ["underfitting"]


def test_a_run_that_has_converged_has_no_finding():
    training = 0.2 + 0.8 * np.exp(-EPOCHS / 2.0)
    monitor = told(training, training + 0.01)
    assert monitor.diagnosis.findings == ()
    assert "Nothing is wrong" in monitor.summary()


def test_patience_is_how_long_validation_has_to_be_worse():
    training = np.linspace(1.0, 0.1, 12)
    validation = np.concatenate([np.linspace(1.0, 0.5, 10), [0.6, 0.7]])
    assert kinds(training, validation, patience=2) == ["overfitting"]
    assert "overfitting" not in kinds(training, validation, patience=3)


def test_noise_is_measured_around_the_trend():
    draw = np.random.default_rng(0).normal(size=5000)
    assert _fit_curves.noise(draw) == pytest.approx(1.0, rel=0.05)
    assert _fit_curves.noise(np.linspace(0.0, 9.0, 50)) == pytest.approx(0.0, abs=1e-12)


def compiled():
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(32, "relu")
    model = keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(1)])
    model.compile(kopt.Adam(0.02), "mse", metrics=["mae"])
    return model


X, Y = GENERATOR.normal(size=(24, 4)), GENERATOR.normal(size=(24, 1))


@pytest.mark.slow
def test_a_model_of_noise_overfits_in_a_real_fit():
    monitor = OverfitMonitor("mae")
    history = compiled().fit(
        X, Y, epochs=60, verbose=0, validation_split=0.5, callbacks=[monitor]
    )
    assert [one.kind for one in monitor.diagnosis.findings] == ["overfitting"]
    assert monitor.training == history.history["mae"]
    assert monitor.validation == history.history["val_mae"]


def test_epochs_without_validation_are_left_out():
    monitor = OverfitMonitor()
    compiled().fit(
        X,
        Y,
        epochs=6,
        verbose=0,
        validation_split=0.5,
        validation_freq=2,
        callbacks=[monitor],
    )
    assert monitor.epochs == [1, 3, 5]


def test_without_validation_it_is_an_error_before_the_first_batch():
    model = compiled()
    with pytest.raises(ValueError, match="Pass `validation_data` or"):
        model.fit(X, Y, verbose=0, callbacks=[OverfitMonitor()])
    assert model.optimizer.iterations == 0


def test_a_metric_that_is_not_logged_is_an_error_after_an_epoch():
    with pytest.raises(ValueError, match=r"'accuracy', which is not logged.*'mae'"):
        compiled().fit(
            X,
            Y,
            epochs=9,
            verbose=0,
            validation_split=0.5,
            callbacks=[OverfitMonitor("accuracy")],
        )


def test_the_plot_marks_the_best_epoch_and_the_overfitting():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    ax = told(FALLING, rising(10)).plot()
    assert "overfitting since epoch 11" in [
        text.get_text() for text in ax.get_legend().get_texts()
    ]
    pyplot.close("all")


def test_curves_go_on_where_a_backup_had_them():
    monitor, other = told(FALLING, rising(10)), OverfitMonitor()
    other.set_state(monitor.get_state())
    assert other.summary() == monitor.summary()


def test_before_a_fit_there_is_nothing_to_tell():
    for ask in (OverfitMonitor().summary, OverfitMonitor().plot):
        with pytest.raises(ValueError, match="no epoch with validation yet"):
            ask()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"monitor": "val_loss"}, "Write monitor='loss'"),
        ({"monitor": "score"}, "Say so: mode='min'"),
        ({"mode": "lowest"}, "`mode` must be one of"),
        ({"patience": 0}, "`patience` must be"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments, match):
    with pytest.raises(ValueError, match=match):
        OverfitMonitor(**arguments)
