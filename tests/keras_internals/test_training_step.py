"""Canaries: the parts of Keras's training step."""

import inspect

import keras
import numpy as np
import pytest

import kopt
from kopt._keras.training_step import predict_and_lose, track_loss
from tests.sharpness.nets import data, mlp


def compiled():
    model = mlp()
    model.compile(kopt.SGD(0.1), "mse", jit_compile=False)
    return model


def test_keras_steps_as_the_first_pass_does():
    # What `_two_passes.train_step` has to follow; read it anew when this fails.
    source = inspect.getsource(keras.Model.train_step)
    for line in (
        "if self._call_has_training_arg:",
        "loss = self._compute_loss(",
        "self._loss_tracker.update_state(",
        "loss_module.unscale_loss_for_distribution(loss)",
        "loss = self.optimizer.scale_loss(loss)",
        "trainable_weights = self.trainable_weights",
        "self.optimizer.apply_gradients(zip(gradients, trainable_weights))",
        "return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)",
    ):
        assert line in source
    assert len(source.splitlines()) == 36


def test_the_loss_of_a_training_pass_is_kerass():
    x, y = data()
    model = compiled()
    predictions, loss = predict_and_lose(model, x, y, None)
    np.testing.assert_allclose(loss, np.mean((predictions.numpy() - y) ** 2), rtol=1e-6)


def test_the_loss_is_tracked_by_samples():
    x, _ = data()
    model = compiled()
    track_loss(model, keras.ops.convert_to_tensor(2.0), [None, x])
    track_loss(model, keras.ops.convert_to_tensor(5.0), x[:24])
    logs = model.get_metrics_result()
    assert float(logs["loss"]) == pytest.approx(3.0)
