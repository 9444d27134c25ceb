"""Nothing heavy is loaded, and nothing is left behind, by the bridge to TF-MOT."""

import os
import subprocess
import sys

import pytest

from kopt.tfmot._packages import tfmot

VARIABLE = "TF_USE_LEGACY_KERAS"


@pytest.mark.slow
def test_tfmot_is_loaded_when_it_is_called_and_leaves_no_trace():
    code = """
import os, sys, keras, kopt.tfmot as area
heavy = {"tf_keras", "tensorflow_model_optimization"}
print(heavy & set(sys.modules) or "light")
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(9)])
area.cluster_weights(model, 2)
print(heavy <= set(sys.modules), os.environ.get("TF_USE_LEGACY_KERAS"))
import tensorflow as tf
print(tf.keras.Model is keras.Model)
"""
    environment = {key: part for key, part in os.environ.items() if key != VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert done.stdout.split() == ["light", "True", "None", "True"]


@pytest.mark.parametrize("before", [None, "0", "1"])
@pytest.mark.parametrize("fails", [False, True])
def test_the_environment_is_put_back(before, fails, tmp_path, monkeypatch):
    name = "tensorflow_model_optimization"
    code = f"import os; os.environ[{VARIABLE!r}] = '1'"
    last = "raise ImportError('broken')" if fails else "loaded = True"
    (tmp_path / f"{name}.py").write_text(f"{code}\n{last}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delenv(VARIABLE, raising=False)
    if before is not None:
        monkeypatch.setenv(VARIABLE, before)
    if fails:
        with pytest.raises(ImportError, match="broken"):
            tfmot()
    else:
        assert tfmot().loaded
        monkeypatch.delitem(sys.modules, name)
    assert os.environ.get(VARIABLE) == before
