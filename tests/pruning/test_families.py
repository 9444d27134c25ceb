"""One model of each family of keras.applications, pruned, trained, saved, exported."""

import keras
import numpy as np
import pytest

from kopt import evaluation, export, pruning
from kopt.pruning import prune_low_magnitude, strip_pruning
from tests.pruning.nets import at_once, sparsities
from tests.reference.pruning import kept_count

# The side of the smallest image that makes sense.
FAMILIES = {
    "MobileNetV3Small": 64,
    "ConvNeXtTiny": 64,
    "DenseNet121": 64,
    "EfficientNetB0": 64,
    "EfficientNetV2B0": 64,
    "InceptionResNetV2": 96,
    "InceptionV3": 96,
    "MobileNet": 64,
    "MobileNetV2": 64,
    "NASNetMobile": 224,
    "ResNet50": 64,
    "ResNet50V2": 64,
    "VGG16": 64,
    "Xception": 96,
}
SMALLEST, *OTHERS = FAMILIES


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(SMALLEST, marks=pytest.mark.slow),
        *(pytest.param(family, marks=pytest.mark.thorough) for family in OTHERS),
    ],
)
def test_a_family_prunes_trains_saves_loads_and_exports(family, tmp_path):
    side = FAMILIES[family]
    build = getattr(keras.applications, family)
    model = build(weights=None, input_shape=(side, side, 3), classes=10)
    prune_low_magnitude(model, at_once(0.5))
    model.compile(keras.optimizers.SGD(1e-3), "sparse_categorical_crossentropy")
    x = np.random.default_rng(0).random((2, side, side, 3), "float32")
    model.fit(x, np.array([0, 1]), batch_size=2, verbose=0)
    pruned = [w for w in pruning.sparsity_report(model).weights if w.pruned]
    assert pruned
    assert all(w.zeros == w.size - kept_count(w.size, 0.5) for w in pruned)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert sparsities(loaded) == sparsities(model)
    outputs = model.predict(x, verbose=0)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), outputs)
    report = export.tflite(strip_pruning(loaded), tmp_path / "model.tflite", verify=x)
    assert report.verified
    file = evaluation.measure(report.path, runs=1)
    assert file.sparsity == pytest.approx(0.5, abs=0.005)
