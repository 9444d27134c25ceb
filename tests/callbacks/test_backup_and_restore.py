import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt.callbacks import BackupAndRestore, FitSchedule, TimeStopping
from tests.interruption import (
    Cut,
    CutOff,
    Setting,
    X,
    Y,
    as_in_a_new_process,
    assert_same,
    dense_model,
    small_model,
)

ROOT = Path(__file__).parents[2]
# Calls that a callback gets: 14 an epoch of 6 batches, without validation.
MIDDLE = (6, 21, 13)


@pytest.mark.slow
def test_a_run_that_is_cut_off_again_and_again_ends_as_a_whole_one(tmp_path):
    whole = Setting(save_freq=1).check(tmp_path, [3, 5, 14, 2, 9, 7, 12])
    assert whole["epochs"] == [0, 1, 2]
    # No update too many: Keras's own callback makes more.
    assert whole["optimizer"][0] == 18


@pytest.mark.slow
@pytest.mark.parametrize("at", range(1, 43))
def test_it_may_be_cut_off_anywhere(at, tmp_path):
    Setting().check(tmp_path, [at])


@pytest.mark.slow
@pytest.mark.parametrize("save_freq", ["epoch", 1, 6, 7, 100])
def test_any_frequency_of_backups_is_exact(save_freq, tmp_path):
    Setting(save_freq=save_freq).check(tmp_path, [27])


OPTIMIZERS = {
    "accumulating": lambda: keras.optimizers.Adam(gradient_accumulation_steps=4),
    "average": lambda: keras.optimizers.Adam(0.05, use_ema=True, ema_momentum=0.9),
    "overwriting": lambda: keras.optimizers.Adam(
        0.05, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=4
    ),
    "loss scaling": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(0.05), initial_scale=4.0, dynamic_growth_steps=5
    ),
    "schedule": lambda: keras.optimizers.SGD(
        keras.optimizers.schedules.CosineDecay(0.1, 18)
    ),
    "kopt, accumulating": lambda: kopt.Adam(0.05, gradient_accumulation_steps=4),
    "kopt, average": lambda: kopt.SGD(0.05, use_ema=True, ema_momentum=0.9),
    "weight average": lambda: kopt.WeightAverage(kopt.Adam(0.05)),
    "schedule-free": lambda: kopt.ScheduleFreeAdamW(0.05),
    "lookahead": lambda: kopt.Lookahead(kopt.SGD(0.1), sync_period=4),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_kind_of_optimizer_goes_on_where_it_was(name, tmp_path):
    setting = Setting(lambda: dense_model(OPTIMIZERS[name]()))
    setting.check(tmp_path, MIDDLE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        {"validation_data": (X, Y)},
        {"validation_split": 0.25, "validation_freq": 2, "epochs": 4},
        {"sample_weight": np.linspace(0, 2, len(X))},
        {"class_weight": {0: 1.0, 1: 3.0}},
        {"initial_epoch": 1, "epochs": 4},
        {"shuffle": False},
        {"shuffle": "batch"},
        {"steps_per_epoch": 3, "epochs": 8},
    ],
    ids=str,
)
def test_the_arguments_of_fit_count(arguments, tmp_path):
    Setting(**arguments).check(tmp_path, (6, 21, 13))


def test_a_model_that_is_not_built_is_built_on_the_data(tmp_path):
    # keras#19179 and keras#20712: there it is refused, or starts over.
    def model():
        made = keras.Sequential([keras.layers.Dropout(0.3), keras.layers.Dense(1)])
        made.compile("adam", "mse", metrics=["mae"])
        return made

    Setting(model).check(tmp_path, MIDDLE[:2])


def test_a_finished_run_that_keeps_its_backup_trains_nothing_more(tmp_path):
    def run():
        as_in_a_new_process()
        model = small_model()
        best = keras.callbacks.EarlyStopping(
            "loss", patience=1, min_delta=1e3, restore_best_weights=True
        )
        backup = BackupAndRestore(tmp_path, delete_checkpoint=False)
        cut = CutOff()
        model.fit(X, Y, 4, epochs=5, verbose=0, callbacks=[best, backup, cut])
        return [model.get_weights(), model.history.history, best.best_epoch], cut.calls

    (first, calls), (again, called) = run(), run()
    assert_same(dict(enumerate(again)), dict(enumerate(first)))
    assert len(first[1]["loss"]) == 2
    assert (calls, called) == (2 * 14 + 1, 1)


def test_a_run_that_was_stopped_in_an_epoch_stays_so(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = int(self.model.optimizer.iterations) == 8

        def get_state(self):
            return {}

        def set_state(self, state):
            pass

    # Cut off in the validation that follows.
    setting = Setting(callbacks=lambda: [Stop()], save_freq=1, validation_data=(X, Y))
    whole = setting.check(tmp_path, [15 + 6])
    assert whole["optimizer"][0] == 8 and whole["epochs"] == [0, 1]


def test_seconds_before_the_interruption_count(tmp_path):
    stopping = TimeStopping(minutes=10)
    stopping.set_model(small_model())
    stopping.on_train_begin()
    state = stopping.get_state()
    clock = {**state["clock"], "elapsed": 300.0, "progress": 0.5}
    stopping.set_state({**state, "clock": clock})
    assert stopping.progress == pytest.approx(0.5, abs=0.01)
    assert stopping.get_state()["clock"]["elapsed"] == pytest.approx(300, abs=1)


@pytest.mark.slow
def test_the_progress_bar_has_the_number_of_batches(tmp_path, capsys):
    # keras#16252: there the number of the epoch is multiplied in.
    Setting(verbose=2, save_freq=1).run(tmp_path, cut_at=22)
    capsys.readouterr()
    Setting(verbose=2, save_freq=1).run(tmp_path)
    shown = capsys.readouterr().out
    assert "Epoch 2/3" in shown and "Epoch 1/3" not in shown
    assert shown.count("6/6") == 2


class TwoOptimizers(keras.Model):
    """Trains its two halves by two optimizers, as adversarial networks do."""

    def __init__(self, is_built=True):
        super().__init__()
        self.first, self.second = keras.layers.Dense(3), keras.layers.Dense(1)
        self.other = keras.optimizers.Adam(0.01)
        self(X[:1])
        if is_built:
            self.other.build(self.second.trainable_variables)

    def call(self, x):
        return self.second(self.first(x))

    def train_step(self, data):
        x, y = data
        with tf.GradientTape(persistent=True) as tape:
            loss = tf.reduce_mean((self(x) - y) ** 2)
        pairs = (self.optimizer, self.first), (self.other, self.second)
        for optimizer, part in pairs:
            variables = part.trainable_variables
            optimizer.apply(tape.gradient(loss, variables), variables)
        return {"own_loss": loss}


def two_optimizers(**arguments):
    model = TwoOptimizers(**arguments)
    model.compile(keras.optimizers.Adam(0.05))
    model.optimizer.build(model.first.trainable_variables)
    return model


@pytest.mark.slow
def test_a_training_step_of_ones_own_with_two_optimizers(tmp_path):
    Setting(two_optimizers, save_freq=1).check(tmp_path, [8, 13])


def test_an_optimizer_whose_state_would_be_lost_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'adam'.*is not built.*optimizer\.build"):
        Setting(lambda: two_optimizers(is_built=False)).run(tmp_path)


# What is refused.


def cut_off(folder, **arguments):
    setting = Setting(small_model, **arguments)
    assert setting.run(folder, cut_at=12) is None
    return setting


def other_width():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model


def other_rate():
    model = small_model()
    model.compile(keras.optimizers.SGD(0.02), "mse")
    return model


def other_loss():
    model = small_model()
    model.compile(keras.optimizers.SGD(0.01), "mae")
    return model


REFUSALS = {
    "another model: variable 0 is": {"model": other_width},
    r"learning_rate.* was 0\.0\d* and is 0\.0": {"model": other_rate},
    "loss was .*mse.* and is .*mae": {"model": other_loss},
    "batch_size was 4 and is 3": {"batch_size": 3},
    "lacks the state of EarlyStopping": {
        "callbacks": lambda: [keras.callbacks.EarlyStopping("loss")]
    },
}


def test_a_backup_of_another_run_is_refused_with_what_differs(tmp_path):
    cut_off(tmp_path)
    content = (tmp_path / "training.backup").read_bytes()
    for words, difference in REFUSALS.items():
        setting = Setting(**{"model": small_model, **difference})
        with pytest.raises(ValueError, match=words) as refusal:
            setting.run(tmp_path)
        assert "training.backup" in str(refusal.value)
        assert "delete the file" in str(refusal.value)
        assert (tmp_path / "training.backup").read_bytes() == content


def test_a_curve_of_another_length_is_refused(tmp_path):
    def callbacks():
        return [FitSchedule(kopt.schedules.Cosine(0.1, steps=1.0))]

    cut_off(tmp_path, callbacks=callbacks)
    with pytest.raises(ValueError, match="run of 18 steps, and this one has 30"):
        Setting(small_model, callbacks=callbacks, epochs=5).run(tmp_path)


@pytest.mark.slow
def test_the_same_model_can_be_fitted_again_in_the_same_process(tmp_path):
    # As in a notebook, after the curve has moved the rate.
    def run(model, at):
        callbacks = [FitSchedule(kopt.schedules.Cosine(0.1, steps=1.0)), CutOff(at)]
        backup = BackupAndRestore(tmp_path, save_freq=2)
        fit = {"batch_size": 4, "epochs": 3, "verbose": 0}
        model.fit(X, Y, callbacks=[backup, *callbacks], **fit)
        return model.get_weights()

    as_in_a_new_process()
    expected = run(small_model(), None)
    as_in_a_new_process()
    model = small_model()
    with pytest.raises(Cut):
        run(model, 22)
    np.testing.assert_equal(run(model, None), expected)


@pytest.mark.slow
def test_replicas_go_on_as_well(tmp_path, two_replicas):
    def model():
        with two_replicas.scope():
            return dense_model(kopt.Adam(0.05))

    Setting(model).check(tmp_path, MIDDLE)


@pytest.mark.slow
def test_more_epochs_are_fine_where_nothing_depends_on_them(tmp_path):
    cut_off(tmp_path)
    longer = Setting(small_model, epochs=5)
    assert_same(longer.run(tmp_path), longer.run(tmp_path / "whole"))


def test_a_callback_that_does_not_tell_what_it_knows_is_named(tmp_path):
    class Counts(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.count = 0

    setting = cut_off(tmp_path, callbacks=lambda: [Counts()])
    with pytest.warns(UserWarning, match=r"Counts may know.*get_state"):
        setting.run(tmp_path)


def test_a_file_that_is_not_whole_is_named(tmp_path):
    setting = cut_off(tmp_path)
    path = tmp_path / "training.backup"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"training\.backup.*no whole backup"):
        setting.run(tmp_path)


def test_a_death_while_a_backup_is_written_leaves_the_one_before(tmp_path, monkeypatch):
    setting = Setting(small_model, save_freq=1)
    whole = setting.run(tmp_path / "whole")
    written = []

    def half(file, **arrays):
        written.append(1)
        if len(written) == 8:
            file.write(b"half of it")
            raise Cut
        return savez(file, **arrays)

    savez = np.savez
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", half)
        # What a process that is killed does not do.
        patch.setattr(Path, "unlink", lambda *args, **kwargs: None)
        assert setting.run(tmp_path / "parts") is None
    assert len(list((tmp_path / "parts").iterdir())) == 2
    assert_same(setting.run(tmp_path / "parts"), whole)
    assert not list((tmp_path / "parts").iterdir())


def test_a_full_disk_does_not_end_training(tmp_path, monkeypatch):
    def full(file, **arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.warns(UserWarning, match=r"No space left.*Training continues"):
        whole = Setting(small_model, save_freq="epoch").run(tmp_path)
    assert whole["epochs"] == [0, 1, 2]


@pytest.mark.parametrize("folder", ["", None, 3])
def test_a_folder_has_to_be_given(folder):
    with pytest.raises(TypeError, match="backup_dir"):
        BackupAndRestore(folder)


def test_a_frequency_is_epoch_or_a_number():
    with pytest.raises(TypeError, match=r"save_freq.*epoch"):
        BackupAndRestore("backup", save_freq="batch")
    with pytest.raises(ValueError, match="save_freq"):
        BackupAndRestore("backup", save_freq=0)


SCRIPT = """
import os
import random
import signal
import sys
from pathlib import Path

import numpy as np

from tests.callbacks.test_backup_and_restore import settings_of_kills
from tests.interruption import Cut


def run(setting, folder, cut_at=None):
    # In a process of its own, before TensorFlow has begun anything in this one.
    child = os.fork()
    if child == 0:
        found = setting.run(folder, cut_at)
        if found is None:
            os.kill(os.getpid(), signal.SIGKILL)
        found["callbacks"] = repr(found["callbacks"])
        found["history"] = repr(found["history"])
        flat = {
            f"{name} {place}": one
            for name, value in found.items()
            for place, one in enumerate(value if isinstance(value, list) else [value])
        }
        np.savez(f"{folder}.npz", **flat)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


draw, folder = random.Random(0), Path(sys.argv[1])
for name, setting in settings_of_kills().items():
    assert run(setting, folder / "whole") == 0
    for _ in range(20):
        assert run(setting, folder / "parts", draw.randint(1, 16)) == -signal.SIGKILL
    assert run(setting, folder / "parts") == 0
    with np.load(folder / "whole.npz") as whole, np.load(folder / "parts.npz") as parts:
        assert sorted(whole.files) == sorted(parts.files)
        for key in whole.files:
            np.testing.assert_array_equal(parts[key], whole[key], err_msg=key)
    print(name, "survived", len(whole.files))
"""


def settings_of_kills():
    def of_kopt():
        return [
            FitSchedule(kopt.schedules.Cosine(0.1, steps=1.0)),
            kopt.callbacks.ReduceOnPlateau("loss", patience=2, min_delta=1.0, every=7),
            kopt.callbacks.EvalWeights(),
            keras.callbacks.EarlyStopping(patience=9, restore_best_weights=True),
        ]

    def of_keras():
        return [
            keras.callbacks.ReduceLROnPlateau(patience=1, min_delta=0.05),
            keras.callbacks.EarlyStopping(patience=9, restore_best_weights=True),
        ]

    common = {"epochs": 16, "save_freq": 3, "validation_data": (X, Y)}
    return {
        "kopt": Setting(
            lambda: dense_model(kopt.WeightAverage(kopt.Adam(0.05))), of_kopt, **common
        ),
        "keras": Setting(dense_model, of_keras, **common),
    }


@pytest.mark.thorough
def test_twenty_kills_of_a_process_change_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("survived") == len(settings_of_kills())
