"""Operations that copy or compare integers, on one grid."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

import kopt
from kopt.export import VerificationError
from kopt.export._common_grids import off_plan, several_grids
from kopt.export._file_contents import read
from kopt.quantization._layer_quantizer import LayerQuantizer
from kopt.quantization.ranges import fake_quantize


@pytest.fixture
def rows(random):
    return random.normal(size=(100, 5, 4)).astype("float32")


def joining():
    """A model that joins a tensor with a larger one that is made from it."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 4))
    small = layers.Dense(4, name="small")(inputs)
    large = layers.Rescaling(8.0)(layers.Dense(4, name="large")(small))
    joined = layers.Concatenate(name="joined")([small, large])
    return keras.Model(inputs, layers.Dense(3)(layers.MaxPooling1D()(joined)))


@pytest.fixture
def aware(rows):
    return kopt.quantization.quantize_model(joining(), calibration_data=rows)


@pytest.fixture
def contents(aware, rows, tmp_path):
    path = tmp_path / "model.tflite"
    report = kopt.export.tflite(aware, path, verify=rows)
    assert report.mismatched_grids == () and "several grids" not in str(report)
    return read(path.read_bytes())


def with_grid(contents, operation, factor=1.0, moved=0):
    """The file with another grid of the first input of an operation."""
    found = next(one for one in contents.operations if one.name == operation)
    index = found.inputs[0]
    old = contents.tensors[index]
    new = replace(old, scales=old.scales * factor, zero_points=old.zero_points + moved)
    tensors = [new if one is old else one for one in contents.tensors]
    return replace(contents, tensors=tuple(tensors))


@pytest.mark.parametrize("operation", ["CONCATENATION", "MAX_POOL_2D"])
@pytest.mark.parametrize("change", [{"factor": 1.01}, {"moved": 1}])
def test_an_input_on_another_grid_is_found(contents, operation, change):
    found = several_grids(with_grid(contents, operation, **change))
    assert any(text.startswith(operation) for text in found)


def test_a_grid_that_is_the_same_up_to_rounding_is_right(contents):
    assert several_grids(with_grid(contents, "CONCATENATION", 1 + 1e-6)) == ()


def test_a_join_on_another_grid_than_the_models_is_found(aware, contents):
    ((name, grid),) = kopt.quantization.grids_of_joins(aware).items()
    assert name == "joined"
    assert off_plan(contents, {name: grid.scale}) == ()
    (found,) = off_plan(contents, {name: 2 * grid.scale})
    assert found.startswith("joined: a step of")


def test_a_join_on_the_grid_of_an_input_is_refused(aware, rows, tmp_path, monkeypatch):
    # What the converter does with a tensor that is rounded to two ranges.
    monkeypatch.setattr(LayerQuantizer, "_joins_for_converter", lambda *_: False)
    monkeypatch.setattr(LayerQuantizer, "rounded", _narrow)
    path = tmp_path / "model.tflite"
    with pytest.raises(VerificationError, match="on several grids: joined"):
        kopt.export.tflite(aware, path, verify=rows)
    with pytest.warns(UserWarning, match="on several grids: joined"):
        report = kopt.export.tflite(aware, path, verify=False)
    assert not report.verified and "joined: a step of" in str(report)


def _narrow(quantizer, role, values):
    """Rounded, with the ranges of joins a quarter as wide in the file."""
    found = quantizer.ranges.get(role)
    if found is None:
        return values
    if quantizer.name != "joined_quantizer" or not quantizer.snapped:
        return found(values)
    return fake_quantize(values, found.low.value / 4, found.high.value / 4)


def test_files_of_the_converter_are_read_as_well(rows, tmp_path):
    path = tmp_path / "model.tflite"
    report = kopt.export.tflite(joining(), path, "int8", rows)
    assert report.mismatched_grids == ()
    assert np.unique(kopt.export.Interpreter(path).predict(rows)).size > 50
