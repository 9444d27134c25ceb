"""A real process is killed while it trains; the same call goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import kopt
from tests.tuning.analytic import proposals

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
import keras
import numpy as np
import kopt

x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
y = (x[:, 0] > 0).astype("int32")


def build(hp):
    units = hp.Int("units", 4, 32, step=4)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units, "relu")])
    model.add(keras.layers.Dropout(hp.Float("dropout", 0, 0.5)))
    model.add(keras.layers.Dense(2, "softmax"))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


kopt.tuning.tune(
    build,
    (x, y),
    objective="val_loss",
    budget=kopt.tuning.Budget(trials=9),
    directory=sys.argv[1],
    validation_split=0.25,
    epochs=3,
)
"""


def start(folder):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def trials_begun(folder):
    if not (folder / "study.db").exists():
        return 0
    try:
        return len(kopt.tuning.Results(folder).rows())
    except (ValueError, OSError):
        return 0


@pytest.mark.thorough
def test_a_killed_process_loses_nothing(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert start(whole).wait(600) == 0
    for begun in (2, 6):
        process = start(parts)
        while trials_begun(parts) < begun and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    assert start(parts).wait(600) == 0
    found = kopt.tuning.Results(parts)
    assert proposals(found) == proposals(kopt.tuning.Results(whole))
    assert [row["state"] for row in found.rows()].count("complete") == 9
    assert "cut off" in [row["state"] for row in found.rows()]
    assert len(list(parts.glob("*.keras"))) == 1
