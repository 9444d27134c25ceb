"""Whether gradients are being recorded: whether this is a step of training.

TensorFlow has no public way to ask.
"""

from __future__ import annotations

from tensorflow.python.eager.record import could_possibly_record


def is_recording() -> bool:
    """Whether a `tf.GradientTape` is open here."""
    return bool(could_possibly_record())
