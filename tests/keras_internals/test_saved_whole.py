"""What kopt puts on a model is not lost in an `.h5` file: saving refuses instead."""

import copy

import keras
import numpy as np
import pytest
from keras import layers

import kopt


@keras.saving.register_keras_serializable("tests")
class Written(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.first, self.second = layers.Dense(8, activation="relu"), layers.Dense(3)

    def call(self, x):
        return self.second(self.first(x))


def data():
    return np.random.default_rng(0).normal(size=(16, 6)).astype("float32")


def written():
    model = Written()
    model(data())
    return model


def sequential():
    return keras.Sequential([keras.Input((6,)), layers.Dense(8), layers.Dense(3)])


VERBS = {
    "prune": lambda m: kopt.pruning.prune_low_magnitude(m, kopt.pruning.OneShot(0.5)),
    "cluster": lambda m: kopt.clustering.cluster_weights(m, 3),
    "teach": lambda m: kopt.quantization.learn_from(m, written()),
    "sharpen": lambda m: kopt.sharpness_aware(m),
    "quantize": lambda m: kopt.quantization.quantize_model(m, calibration_data=data()),
    "penalize": lambda m: kopt.regularizers.apply(m, {layers.Dense: "l2"}),
}


@pytest.mark.parametrize("verb", sorted(VERBS))
@pytest.mark.parametrize("name", ["m.h5", "m.hdf5"])
def test_an_h5_file_is_refused_and_an_earlier_one_stays(verb, name, tmp_path):
    model = VERBS[verb](written())
    (tmp_path / name).write_text("earlier")
    with pytest.raises(ValueError, match=r"Save it as \.keras"):
        model.save(tmp_path / name)
    assert (tmp_path / name).read_text() == "earlier"


@pytest.mark.parametrize("verb", ["prune", "cluster", "teach", "sharpen"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_a_model_inside_another_is_refused_too(verb, tmp_path):
    outer = keras.Sequential([keras.Input((6,)), VERBS[verb](sequential())])
    with pytest.raises(ValueError, match=r"Save it as \.keras"):
        outer.save(tmp_path / "m.h5")


@pytest.mark.parametrize("verb", ["quantize", "penalize"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_what_is_in_the_configurations_of_layers_is_written(verb, tmp_path):
    model = VERBS[verb](sequential())
    model.save(tmp_path / "m.h5")
    again = keras.saving.load_model(tmp_path / "m.h5", compile=False)
    np.testing.assert_array_equal(again(data()), model(data()))


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_a_stripped_model_is_written(tmp_path):
    model = kopt.pruning.strip_pruning(VERBS["prune"](sequential()))
    model.save(tmp_path / "m.h5")
    again = keras.saving.load_model(tmp_path / "m.h5", compile=False)
    np.testing.assert_array_equal(again(data()), model(data()))


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_a_deep_copy_computes_the_same(verb):
    model = VERBS[verb](written())
    again = copy.deepcopy(model)
    np.testing.assert_array_equal(again(data()), model(data()))
