"""objective: a tuner's objective whose direction is right."""

from __future__ import annotations

import re

import keras_tuner

from kopt import _checks
from kopt._registry import register

# A metric's name ends in one of these words, whatever stands before it.
_HIGHER_IS_BETTER = (
    "acc",
    "accuracy",
    "auc",
    "correlation",
    "cosine_similarity",
    "f1_score",
    "fbeta_score",
    "io_u",
    "precision",
    "precision_at_recall",
    "r2_score",
    "recall",
    "recall_at_precision",
    "sensitivity_at_specificity",
    "specificity_at_sensitivity",
    "true_negatives",
    "true_positives",
)
_LOWER_IS_BETTER = (
    "circle",
    "cross_entropy",
    "crossentropy",
    "ctc",
    "dice",
    "divergence",
    "error",
    "false_negatives",
    "false_positives",
    "hinge",
    "huber",
    "log_cosh",
    "logcosh",
    "loss",
    "mae",
    "mape",
    "mse",
    "msle",
    "poisson",
    "rmse",
    "tversky",
)


@register("tuning", serializable=False)
def objective(name: str, direction: str | None = None) -> keras_tuner.Objective:
    """An objective for a Keras Tuner tuner, with the right direction.

    Keras Tuner infers the direction from a list that lacks many of Keras's metrics,
    and takes "min" for those. A search for `"val_f1_score"`, `"val_r2_score"`,
    `"val_binary_io_u"` or `"val_cosine_similarity"` then returns its worst model,
    without a word. This function knows every metric and loss of Keras, and asks
    where it does not know.

    Args:
        name: The metric as `fit` logs it: `"val_f1_score"`, `"val_loss"`,
            `"val_head_accuracy"`, `"val_auc_1"`.
        direction: `"min"` or `"max"`, for a metric of your own.

    Returns:
        A `keras_tuner.Objective`, to give to a tuner as `objective`.

    Raises:
        ValueError: If the direction is not given and the name is not known.

    Example:

    >>> kopt.tuning.objective("val_f1_score").direction
    'max'
    >>> import keras_tuner
    >>> keras_tuner.engine.metrics_tracking.infer_metric_direction("val_f1_score")
    'min'
    """
    if direction is None:
        direction = _direction(name)
    _checks.one_of("direction", direction, ("min", "max"))
    return keras_tuner.Objective(name, direction)


def _direction(name: str) -> str:
    # Keras numbers the second metric of a kind: auc, auc_1.
    bare = "_" + re.sub(r"_\d+$", "", name)
    for words, direction in ((_HIGHER_IS_BETTER, "max"), (_LOWER_IS_BETTER, "min")):
        if any(bare.endswith("_" + word) for word in words):
            return direction
    raise ValueError(
        f"Whether {name!r} should be high or low is not known. Say so: "
        f'objective({name!r}, direction="max").'
    )
