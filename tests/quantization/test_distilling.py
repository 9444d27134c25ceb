import keras
import numpy as np
import pytest
from keras import layers

from kopt.quantization import is_quantized, learn_from, quantize_model


def test_the_float_model_teaches_its_quantized_self(mlp, rows):
    exact = mlp.predict(rows, verbose=0)
    quantize_model(mlp, calibration_data=rows, teacher=True)
    weights = len(mlp.trainable_variables)
    learn_from(mlp, mlp._kopt_teacher.model, weight=1.0)
    mlp.compile(keras.optimizers.Adam(1e-3), "mse")
    # Targets that only the teacher contradicts.
    mlp.fit(rows, exact + 100.0, epochs=3, verbose=0)
    assert np.abs(mlp.predict(rows, verbose=0) - exact).max() < 0.5
    assert len(mlp.trainable_variables) == weights == 4


def test_the_loss_is_the_weighted_sum(mlp, rows):
    teacher = keras.Sequential([keras.Input((6,)), layers.Dense(3)])
    distance = np.mean((mlp(rows) - teacher(rows)) ** 2)
    own = np.mean(mlp(rows) ** 2)
    learn_from(mlp, teacher, weight=0.25)
    mlp.compile(keras.optimizers.SGD(0.0), "mse")
    loss = mlp.train_on_batch(rows, np.zeros((64, 3)))
    assert loss == pytest.approx(0.75 * own + 0.25 * distance, rel=1e-4)


def test_lessons_end_and_are_not_saved(mlp, rows, tmp_path):
    quantize_model(mlp, calibration_data=rows, teacher=True)
    mlp.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert is_quantized(again)
    np.testing.assert_array_equal(
        again.predict(rows, verbose=0), mlp.predict(rows, verbose=0)
    )
    learn_from(mlp, None)
    assert not hasattr(mlp, "_kopt_teacher")
    assert type(mlp) is keras.Sequential


def test_a_teacher_has_to_be_a_model(mlp):
    with pytest.raises(TypeError, match="teacher"):
        learn_from(mlp, "model.keras")
