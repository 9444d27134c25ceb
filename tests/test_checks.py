import os

import keras
import numpy as np
import pytest

from kopt import _checks


class TestNumber:
    @pytest.mark.parametrize("value", [1, 0.5, np.float32(0.25), np.int64(1)])
    def test_real_numbers_become_floats(self, value):
        checked = _checks.number("rate", value, low=0, high=1)
        assert type(checked) is float
        assert checked == value

    @pytest.mark.parametrize("value", [True, "1", None, 1j, [1.0]])
    def test_what_is_no_number_is_a_type_error(self, value):
        with pytest.raises(
            TypeError, match=r"`rate` must be a number. Received: rate="
        ):
            _checks.number("rate", value)

    @pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
    def test_numbers_out_of_range_are_a_value_error_with_the_rule(self, value):
        with pytest.raises(ValueError, match=r"number at least 0 and at most 1\. Rec"):
            _checks.number("rate", value, low=0, high=1)

    def test_open_ends_shut_the_end_itself_out(self):
        with pytest.raises(ValueError, match="greater than 0 and less than 1"):
            _checks.number("rate", 0, low=0, high=1, low_open=True, high_open=True)
        with pytest.raises(ValueError, match="less than 1"):
            _checks.number("rate", 1, low=0, high=1, high_open=True)
        assert _checks.number("rate", 0, low=0, high=1, high_open=True) == 0

    def test_hint_ends_the_message(self):
        with pytest.raises(ValueError, match=r"rate=-1. Use half of it.$"):
            _checks.number("rate", -1, low=0, hint="Use half of it.")


class TestInteger:
    @pytest.mark.parametrize("value", [3, np.int32(3)])
    def test_whole_numbers_become_ints(self, value):
        checked = _checks.integer("steps", value, low=1)
        assert type(checked) is int
        assert checked == 3

    @pytest.mark.parametrize("value", [3.0, True, "3", None])
    def test_what_is_no_whole_number_is_a_type_error(self, value):
        with pytest.raises(TypeError, match="`steps` must be a whole number"):
            _checks.integer("steps", value)

    def test_too_low_is_a_value_error_with_the_rule(self):
        with pytest.raises(ValueError, match=r"of at least 1. Received: steps=0"):
            _checks.integer("steps", 0, low=1)


def test_one_of_lists_the_choices():
    assert _checks.one_of("mode", "a", ("a", "b")) == "a"
    with pytest.raises(ValueError, match=r"`mode` must be one of 'a', 'b'. Rec"):
        _checks.one_of("mode", "c", ("a", "b"))


class TestKerasModel:
    def test_a_built_model_passes(self):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        assert _checks.keras_model("model", model) is model

    def test_a_model_without_weights_yet_is_refused_unless_allowed(self):
        model = keras.Sequential([keras.layers.Dense(1)])
        with pytest.raises(ValueError, match="Build it first"):
            _checks.keras_model("model", model)
        assert _checks.keras_model("model", model, built=False) is model

    def test_a_layer_is_no_model(self):
        with pytest.raises(TypeError, match="`model` must be a Keras 3 model"):
            _checks.keras_model("model", keras.layers.Dense(1))

    def test_a_model_of_tf_keras_is_named_as_such(self):
        fake = type("Sequential", (), {"__module__": "tf_keras.src.models"})()
        with pytest.raises(TypeError, match=r"older tf_keras. Rebuild it"):
            _checks.keras_model("model", fake)


class TestFiniteWeights:
    def model(self, value):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.layers[0].bias.assign([value])
        return model

    def test_finite_weights_pass(self):
        model = self.model(1.0)
        assert _checks.finite_weights("model", model) is model

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_the_weight_that_is_not_finite_is_named(self, value):
        with pytest.raises(ValueError, match="in 'sequential/dense/bias'"):
            _checks.finite_weights("model", self.model(value))

    def test_whole_number_weights_are_no_matter(self):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dropout(0.5)])
        model.build((None, 2))
        assert _checks.finite_weights("model", model) is model


class TestWritablePath:
    def test_a_new_file_in_a_folder_passes(self, tmp_path):
        assert _checks.writable_path("path", str(tmp_path / "a")) == tmp_path / "a"

    def test_a_missing_folder_is_named(self, tmp_path):
        with pytest.raises(ValueError, match=r"folder that exists.*Create .*missing"):
            _checks.writable_path("path", tmp_path / "missing" / "a")

    def test_what_is_no_path_is_a_type_error(self):
        with pytest.raises(TypeError, match="`path` must be a path"):
            _checks.writable_path("path", 3)

    def test_a_folder_that_cannot_be_written_is_a_permission_error(
        self, tmp_path, monkeypatch
    ):
        # The superuser may write everywhere, so the answer of the system is faked.
        monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
        with pytest.raises(PermissionError, match="folder that can be written"):
            _checks.writable_path("path", tmp_path / "a")


def test_a_model_without_weights_is_built_once_all_its_layers_were_called():
    class Pads(keras.Model):
        def __init__(self):
            super().__init__()
            self.pad = keras.layers.ZeroPadding2D()
            self.dense = None

        def call(self, x):
            return self.pad(x)

    model = Pads()
    with pytest.raises(ValueError, match="must be a built model"):
        _checks.keras_model("model", model)
    model(np.ones((1, 4, 4, 2), "float32"))
    assert _checks.keras_model("model", model) is model
