"""The parts of Keras's training step, for a step that is made otherwise.

Keras has no public way to compute a training loss as `fit` does, or to reach the
tracker of the loss.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras.src.losses.loss import unscale_loss_for_distribution


def predict_and_lose(
    model: Any, x: Any, y: Any, sample_weight: Any
) -> tuple[Any, tf.Tensor]:
    """Predictions of a training pass and the loss, with all that layers add to it."""
    arguments = {"training": True} if model._call_has_training_arg else {}
    predictions = model(x, **arguments)
    loss = model._compute_loss(
        x=x, y=y, y_pred=predictions, sample_weight=sample_weight, training=True
    )
    return predictions, loss


def track_loss(model: Any, loss: tf.Tensor, x: Any) -> None:
    """Show a loss in the logs."""
    arrays = [array for array in keras.tree.flatten(x) if array is not None]
    model._loss_tracker.update_state(
        unscale_loss_for_distribution(loss), sample_weight=tf.shape(arrays[0])[0]
    )
