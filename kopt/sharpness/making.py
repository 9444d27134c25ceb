from __future__ import annotations

from typing import TypeVar

import keras
from keras.optimizers.schedules import LearningRateSchedule

from kopt import _checks
from kopt._keras.compiled import forget_compiled_functions
from kopt._registry import register
from kopt.sharpness._carrier import SharpnessAwareModel, carry
from kopt.sharpness._settings import checked_settings

Model = TypeVar("Model", bound=keras.Model)


@register("sharpness", serializable=False)
def sharpness_aware(
    model: Model,
    rho: float | LearningRateSchedule | None = None,
    variant: str = "sam",
    *,
    alpha: float | None = None,
    eta: float | None = None,
    period: int | None = None,
    per_replica: bool = False,
) -> Model:
    """Make a model train towards flat minima, by two passes a step.

    A minimum that stays low when the weights are disturbed often generalizes better.
    Each training step first finds where the loss rises fastest, and then descends by
    the gradient found a step of length `rho` up that way. It takes about twice the time
    of a plain step. The model stays the model it was: compile it with any optimizer,
    fit, evaluate, save and load it. Batch statistics, metrics and random seeds move
    once a step, in the first pass; dropout drops the same units in both.

    With `g` the gradient at the weights `w` and `g_s` the gradient at `w + e`:

    - `"sam"` steps by `e = rho * g / |g|` and descends by `g_s`.
    - `"asam"` steps by `e = rho * T^2 g / |T g|`, where `T = |w| + eta` (1 for biases),
      so that it does not matter how the weights of layers are scaled.
    - `"gsam"` steps as `"sam"` and descends by `g_s - alpha * u`, where `u` is the part
      of `g` that is orthogonal to `g_s`.
    - `"looksam"` does as `"sam"` in one step of every `period`. In the others it makes
      one pass and descends by `g + alpha * |g| * v`, where `v` is the direction in
      which the last `g_s` was orthogonal to its `g`. It keeps `v`, as large as the
      weights, and gives dense gradients for embeddings. Over replicas it cannot train
      layers in which they meet (`BatchNormalization(synchronized=True)`).

    Norms are over all trainable weights that have a gradient together; layers that are
    not trainable stay where they are, but a frozen `ParamGroup` still counts and is
    moved for the second pass. In bfloat16 variables a short step is rounded away: use
    `mixed_bfloat16`. Where an optimizer accumulates gradients, each batch has its own
    two passes. Call it again to choose other settings.

    Args:
        model: A Keras 3 model, changed in place. Its class may have a `compute_loss` of
            its own, but not a `train_step`.
        rho: Length of the step uphill, from 0: a number, or a schedule of the
            optimizer's updates (GSAM's authors let it follow the learning rate).
            Defaults to `0.05` for SAM and GSAM, `0.5` for ASAM, `0.1` for LookSAM.
        variant: `"sam"`, `"asam"`, `"gsam"` or `"looksam"`.
        alpha: Weight of the orthogonal part, from 0. Defaults to `0.4` for GSAM and
            `0.7` for LookSAM.
        eta: Smallest scale of a weight in ASAM. Defaults to `0.01`.
        period: LookSAM makes the second pass once in so many steps. Defaults to `10`.
        per_replica: Under `tf.distribute`, let each replica step by the gradient of its
            own part of the batch (the paper's m-sharpness, and one reduction less).
            Defaults to `False`: by the gradient of the whole batch, so that replicas
            train as one device would.

    Returns:
        `model` itself.

    Raises:
        TypeError: If `model` is not a Keras 3 model, or an argument not a number.
        ValueError: If the model has a `train_step` of its own, an argument is out of
            its range, or does not belong to the variant.

    References:
        Foret et al., 2021, "Sharpness-Aware Minimization for Efficiently Improving
        Generalization", arXiv:2010.01412.
        Kwon et al., 2021, "ASAM: Adaptive Sharpness-Aware Minimization for
        Scale-Invariant Learning of Deep Neural Networks", arXiv:2102.11600.
        Zhuang et al., 2022, "Surrogate Gap Minimization Improves Sharpness-Aware
        Training", arXiv:2203.08065.
        Liu et al., 2022, "Towards Efficient and Scalable Sharpness-Aware
        Minimization" (LookSAM), arXiv:2203.02714.

    Example:

    A loss of `w²` at `w = 1` is descended by its slope at 1.5: `1 - 0.1 * 3`.

    >>> layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    >>> model = keras.Sequential([keras.Input((1,)), layer])
    >>> model = kopt.sharpness_aware(model, rho=0.5)
    >>> model.compile(keras.optimizers.SGD(0.1), "mse")
    >>> history = model.fit(np.ones((1, 1)), np.zeros((1, 1)), verbose=0)
    >>> round(float(layer.kernel.numpy()[0, 0]), 4)
    0.7
    """
    _checks.keras_model("model", model, built=False)
    settings = checked_settings(
        variant, per_replica, rho=rho, alpha=alpha, eta=eta, period=period
    )
    own = type(model).train_step is not keras.Model.train_step
    if own and not isinstance(model, SharpnessAwareModel):
        raise ValueError(
            f"{type(model).__name__} has a `train_step` of its own, which "
            "`sharpness_aware` would have to replace. Give the class a `compute_loss` "
            "instead; both passes call it."
        )
    carry(model, settings)
    # A training step that was compiled before makes one pass.
    forget_compiled_functions(model)
    return model
