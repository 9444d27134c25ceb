"""Keras says in the same place as ever that it writes an `.h5` file."""

import keras
import pytest

from kopt._keras.h5_files import writes_h5


@pytest.mark.parametrize(("name", "expected"), [("m.h5", True), ("m.keras", False)])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_a_layer_knows_which_file_asks_for_its_configuration(name, expected, tmp_path):
    seen = []

    class Asked(keras.layers.Dense):
        def get_config(self):
            seen.append(writes_h5())
            return super().get_config()

    keras.Sequential([keras.Input((2,)), Asked(1)]).save(tmp_path / name)
    assert set(seen) == {expected}
    assert not writes_h5()
