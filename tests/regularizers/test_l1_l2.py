"""L1, L2 and L1L2 beside Keras's own."""

import keras
import numpy as np
import pytest

from kopt import regularizers

WEIGHTS = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
PAIRS = [
    (regularizers.L1, keras.regularizers.L1, {}),
    (regularizers.L1, keras.regularizers.L1, {"l1": 0.3}),
    (regularizers.L2, keras.regularizers.L2, {}),
    (regularizers.L2, keras.regularizers.L2, {"l2": 0.3}),
    (regularizers.L1L2, keras.regularizers.L1L2, {}),
    (regularizers.L1L2, keras.regularizers.L1L2, {"l1": 0.3, "l2": 0.2}),
]


@pytest.mark.parametrize(("ours", "theirs", "arguments"), PAIRS)
def test_takes_the_place_of_keras_regularizer(ours, theirs, arguments):
    penalty, twin = ours(**arguments), theirs(**arguments)
    config = {name: penalty.get_config()[name] for name in twin.get_config()}
    assert config == pytest.approx(twin.get_config(), rel=1e-7)
    assert float(penalty(WEIGHTS)) == pytest.approx(float(twin(WEIGHTS)), rel=1e-6)
    assert ours.from_config(twin.get_config()).get_config() == penalty.get_config()


def test_keras_cannot_train_bfloat16_weights_with_a_penalty():
    # Ours can, see the conformance suite. When this fails Keras has mended it.
    layer = keras.layers.Dense(1, kernel_regularizer="l2", dtype="bfloat16")
    model = keras.Sequential([keras.Input((3,)), layer])
    model.compile("sgd", "mse", jit_compile=False)
    with pytest.raises(TypeError, match="bfloat16"):
        model.fit(np.ones((2, 3)), np.ones((2, 1)), verbose=0)
