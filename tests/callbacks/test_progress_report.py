"""How training goes, shown in a terminal and elsewhere."""

import io

import keras
import numpy as np
import pytest
from rich.console import Console

import kopt
from kopt.callbacks import (
    FitSchedule,
    ProgressReport,
    TimeStopping,
    _progress_table,
    progress_report,
)
from kopt.callbacks._progress_table import Place, Row
from kopt.schedules import Linear

X, Y = np.ones((16, 2), "float32"), np.ones((16, 1), "float32")


class Seconds:
    """Stands for the module `time`; a batch takes one second, the first one ten."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


class Takes(keras.callbacks.Callback):
    def __init__(self, seconds, validation=0.0):
        super().__init__()
        self.seconds, self.validation, self.first = seconds, validation, True

    def on_train_batch_begin(self, batch, logs=None):
        self.seconds.now += 10.0 if self.first else 1.0
        self.first = False

    def on_test_begin(self, logs=None):
        self.seconds.now += self.validation


@pytest.fixture
def seconds(monkeypatch):
    clock = Seconds()
    monkeypatch.setattr(progress_report, "time", clock)
    return clock


def shown(*callbacks, terminal=False, label="run", every=None, epochs=3, **arguments):
    """What a report of a fit has written."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=120)
    report = ProgressReport(label, every=every, console=console)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(kopt.SGD(0.01), "mse", metrics=["mae"])
    arguments = {"batch_size": 4, "verbose": 0, **arguments}
    history = model.fit(
        X, Y, epochs=epochs, callbacks=[*callbacks, report], **arguments
    )
    return file.getvalue(), history.history


def test_elsewhere_an_epoch_is_a_line_with_all_that_is_logged(seconds):
    curve = FitSchedule(Linear(0.4, steps=1.0))
    text, history = shown(Takes(seconds), curve, validation_data=(X, Y))
    lines = text.splitlines()
    assert len(lines) == 3
    for epoch, line in enumerate(lines):
        assert line.startswith(f"                 run  epoch {epoch + 1}/3  ")
        for name, values in history.items():
            assert f"  {name} {values[epoch]:.4g}  " in line
    assert set(history) >= {"loss", "mae", "val_loss", "learning_rate"}


def test_the_time_left_is_that_of_the_batches_without_the_first(seconds):
    text, _ = shown(Takes(seconds))
    first, second, third = text.splitlines()
    assert first.endswith("  13 s, 8 s left")
    assert second.endswith("  4 s, 4 s left")
    assert third.endswith("  4 s")


def test_validation_counts_where_there_was_some(seconds):
    text, _ = shown(Takes(seconds, validation=4.0), validation_data=(X, Y))
    assert text.splitlines()[1].endswith("  8 s, 9 s left")


@pytest.mark.slow
def test_the_minutes_of_another_callback_are_the_limit(seconds):
    stopping = TimeStopping(minutes=0.5)
    text, _ = shown(Takes(seconds), stopping, epochs=100)
    assert text.splitlines()[0].endswith("  13 s, 17 s left")


def test_an_epoch_that_goes_on_is_shown_from_time_to_time(seconds):
    text, _ = shown(Takes(seconds), every=2.0, epochs=1)
    lines = text.splitlines()
    assert ["batch" in line for line in lines] == [True, True, False]
    assert "epoch 1/1  batch 1/4  loss " in lines[0]
    assert "epoch 1/1  batch 3/4  loss " in lines[1]


def test_initial_epoch_counts_as_done(seconds):
    text, _ = shown(Takes(seconds), epochs=4, initial_epoch=2)
    first = text.splitlines()[0]
    assert "epoch 3/4" in first and first.endswith("  13 s, 4 s left")


def test_in_a_terminal_the_table_is_drawn_in_place():
    text, history = shown(terminal=True, every=1e-6, epochs=12, validation_data=(X, Y))
    assert "\x1b[1A" in text  # the cursor goes up to draw it again
    last = text[text.rindex("epoch") :]
    for name, values in history.items():
        assert name in last
        assert f"{values[-1]:.4g}" in last
    assert "12/12" in last and "\x1b[?25h" in text
    assert " 2/12 " not in last and " 3/12 " in last  # ten rows


def test_it_takes_the_place_of_kerass_own_bar(capsys):
    text, _ = shown(verbose=1)
    assert capsys.readouterr().out == ""
    assert len(text.splitlines()) == 3


def test_without_a_console_it_writes_to_the_standard_output(capsys):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(X, Y, epochs=2, callbacks=[ProgressReport()])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]


def test_a_fit_that_was_interrupted_leaves_no_table_behind():
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    console = Console(file=io.StringIO(), force_terminal=True)
    report = ProgressReport(console=console)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, callbacks=[report, Stop()])
    model.fit(X, Y, callbacks=[report])
    assert report._live is None


def test_the_rows_of_a_run_can_be_taken_up():
    report = ProgressReport()
    report._rows = [Row(1, {"loss": 0.5}, 3.0)]
    other = ProgressReport()
    other.set_state(report.get_state())
    assert other._rows == [Row(1, {"loss": 0.5}, None)]
    line = _progress_table.line("", other._rows[0], Place(2, 0, 6, 0.5, None))
    assert line == "epoch 1/2  loss 0.5"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.44, "0.4 s"), (42.4, "42 s"), (59.6, "1:00"), (185, "3:05"), (3750, "1:02:30")],
)
def test_times_are_written_as_one_reads_them(seconds, text):
    assert _progress_table.duration(seconds) == text


def test_what_is_not_known_is_left_out():
    row, place = Row(2, {"loss": 0.25}, 61.0), Place(None, 7, None, None, None)
    assert _progress_table.line("", row, place) == "epoch 2  batch 7  loss 0.25  1:01"


def test_the_time_between_pictures_is_greater_than_zero():
    with pytest.raises(ValueError, match=r"`every` must be .* greater than 0"):
        ProgressReport(every=0)
