import subprocess
import sys

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

import kopt
from kopt import _registry
from kopt._command_line import application


@pytest.fixture
def run():
    def call(*arguments):
        return CliRunner().invoke(application, [str(word) for word in arguments])

    return call


@pytest.fixture
def model(tmp_path):
    """A small model in a file, and the arrays to try it on."""
    network = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    network.save(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(64) % 3)
    return tmp_path / "model.keras"


def test_version_names_what_a_report_needs(run):
    lines = run("version").output.splitlines()
    assert f"kopt {kopt.__version__}" in lines
    assert f"keras {keras.__version__}" in lines


def test_list_names_every_public_thing(run):
    printed = run("list").output
    for area in _registry.areas():
        assert f"kopt.{area}\n" in printed
        assert all(f"  {name} " in printed for name in _registry.names(area))


def test_list_of_one_area_has_no_other(run):
    printed = run("list", "schedules").output
    assert "  Cosine " in printed
    assert "kopt.layers" not in printed


def test_list_of_an_unknown_area_names_the_known_ones(run):
    done = run("list", "lairs")
    assert done.exit_code == 2
    assert "layers" in done.output


def test_markdown_is_a_table_of_areas(run):
    lines = run("list", "schedules", "--markdown").output.splitlines()
    names = ", ".join(f"`{name}`" for name in kopt.schedules.__all__)
    assert lines[2] == f"| `kopt.schedules` | {names} |"
    assert "`Cosine`, " in names


def test_export_writes_a_file_that_measure_reads(run, model, tmp_path):
    data = tmp_path / "data.npz"
    exported = run(
        "export", model, tmp_path / "m.tflite", "--quantization", "int8", "--data", data
    )
    assert exported.exit_code == 0, exported.output
    for file in (model, tmp_path / "m.tflite"):
        measured = run("measure", file, "--data", data)
        assert measured.exit_code == 0, measured.output
        assert "accuracy" in measured.output


def test_export_without_the_ending_of_tflite_writes_a_saved_model(run, model, tmp_path):
    done = run("export", model, tmp_path / "saved")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "saved" / "saved_model.pb").is_file()


def test_quantization_of_a_saved_model_is_refused(run, model, tmp_path):
    done = run("export", model, tmp_path / "saved", "--quantization", "int8")
    assert done.exit_code == 2
    assert "need a .tflite file" in done.output
    assert not (tmp_path / "saved").exists()


def test_data_without_labels_says_how_to_write_it(run, model, tmp_path):
    np.savez(tmp_path / "inputs.npz", inputs=np.zeros(3))
    done = run("measure", model, "--data", tmp_path / "inputs.npz")
    assert done.exit_code == 2
    assert "np.savez(path, x=inputs, y=labels)" in done.output


def test_without_typer_the_command_says_what_to_install():
    code = (
        "import sys; sys.modules['typer'] = None; import kopt.__main__ as m; m.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert 'pip install "keras-kopt[cli]"' in done.stderr
