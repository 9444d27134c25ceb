import keras
import pytest

import kopt
from tests.sampling import sampled


@keras.saving.register_keras_serializable("kopt_tests")
class Net(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.first = keras.layers.Dense(8, activation="relu")
        self.second = keras.layers.Dense(3)

    def call(self, inputs):
        return self.second(self.first(inputs))


CARRIED = {
    "masks": lambda model: kopt.pruning.prune_low_magnitude(
        model, kopt.pruning.OneShot(0.5)
    ),
    "centroids": lambda model: kopt.clustering.cluster_weights(model, 4),
    "sharpness": kopt.sharpness.sharpness_aware,
    "masks and sharpness": lambda model: kopt.sharpness.sharpness_aware(
        CARRIED["masks"](model)
    ),
}


@pytest.fixture
def x(random):
    return random.normal(size=(48, 3)).astype("float32")


@pytest.fixture
def model(x):
    model = Net()
    model.compile("adam", "mse")
    model(x)
    return model


@pytest.mark.parametrize("carried", sampled(CARRIED, ["masks"], pytest.mark.slow))
def test_a_subclassed_model_exports_whatever_it_carries(model, x, tmp_path, carried):
    model = CARRIED[carried](model)
    assert kopt.export.tflite(model, tmp_path / "model.tflite").verified
    assert kopt.export.saved_model(model, tmp_path / "saved", verify=x).verified


@pytest.mark.parametrize("carried", sampled(CARRIED, ["masks"], pytest.mark.slow))
def test_a_subclassed_model_quantizes_whatever_it_carries(model, x, tmp_path, carried):
    model = CARRIED[carried](model)
    kopt.quantization.quantize_model(model, calibration_data=x)
    assert kopt.quantization.quantization_report(model).integer
    assert kopt.export.tflite(model, tmp_path / "model.tflite", verify=x).verified


def test_a_subclassed_model_exports_with_its_teacher(model, x, tmp_path):
    teacher = Net()
    teacher(x)
    kopt.quantization.quantize_model(model, calibration_data=x, teacher=teacher)
    assert kopt.export.tflite(model, tmp_path / "model.tflite", verify=x).verified
