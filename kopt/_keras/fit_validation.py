"""The validation data of the `fit` that is calling a callback.

Keras splits them off or unpacks them in `fit`, and hands them to no callback.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras

from kopt._keras.fit_length import locals_of_fit


class Validation(NamedTuple):
    """What a `fit` validates with.

    Attributes:
        x: Inputs, or the data set with targets and weights.
        y: Targets beside arrays.
        sample_weight: Weights beside arrays.
        batch_size: Samples of a batch of arrays.
        steps: Batches that are looked at; `None` for all of them.
    """

    x: Any
    y: Any
    sample_weight: Any
    batch_size: int
    steps: int | None


def fit_validation(callback: keras.callbacks.Callback) -> Validation | None:
    """The validation data of the `fit` that calls a callback.

    `None` where it has none, or where no `fit` of Keras is calling.
    """
    known = locals_of_fit(callback)
    if known is None or known.get("validation_data") is None:
        return None
    return Validation(
        known["val_x"],
        known["val_y"],
        known["val_sample_weight"],
        known["validation_batch_size"] or known["batch_size"] or 32,
        known["validation_steps"],
    )
