from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from kopt._registry import register
from kopt.pruning import ConstantSparsity, PolynomialDecay
from kopt.tfmot import _flow
from kopt.tfmot._checking import keras_model
from kopt.tfmot._flow import Selection
from kopt.tfmot._packages import tfmot
from kopt.tfmot.fit import checked_train
from kopt.tfmot.to_older import to_tf_keras


@register("tfmot", serializable=False)
def prune_low_magnitude(
    model: keras.Model,
    pruning_schedule: Any = None,
    *,
    train: Callable[[Any, list[Any]], None],
    block_size: tuple[int, int] = (1, 1),
    block_pooling_type: str = "AVG",
    sparsity_m_by_n: tuple[int, int] | None = None,
    pruning_policy: Any = None,
    layers: Selection | None = None,
    converters: Mapping[type, Callable[[keras.Layer], Any]] | None = None,
) -> keras.Model:
    """Prune a Keras 3 model with TensorFlow Model Optimization itself.

    The model goes to tf_keras, TF-MOT wraps its layers, `train` trains it there, TF-MOT
    takes the wrappers off, and the weights come back. For results that are to be
    compared with published ones of TF-MOT; `kopt.pruning.prune_low_magnitude` does the
    same without leaving Keras 3, takes every layer, and trains in your own loop.

    Args:
        model: A built sequential or functional Keras 3 model. It is not changed.
        pruning_schedule: A schedule of TF-MOT, or `kopt.pruning.ConstantSparsity` or
            `PolynomialDecay`, which are the same curves. Defaults to TF-MOT's own, half
            of the weights from the first step on.
        train: `kopt.tfmot.Fit(x, y, loss)`, or a function of a tf_keras model and a
            list of callbacks that trains the model with them.
        block_size: Height and width of blocks that go together, in dense kernels.
        block_pooling_type: `"AVG"` or `"MAX"`: how a block's magnitudes become one.
        sparsity_m_by_n: `(m, n)` prunes m of n consecutive weights.
        pruning_policy: A policy of TF-MOT. It sees the layers of tf_keras.
        layers: The layers to prune, by name, as layers, or by a function of the layer.
            None is all of them, which TF-MOT refuses if it does not know one.
        converters: As for `to_tf_keras`.

    Returns:
        A copy of `model`, of the same kind, with the pruned weights. It is compiled
        if `model` is, with a new optimizer.

    Raises:
        UnsupportedLayerError: If layers have no counterpart in tf_keras.
        ValueError: If TF-MOT refuses the model, or `train` did not train it.
        TypeError: If an argument is of a wrong kind.

    References:
        Zhu & Gupta, 2017, "To prune, or not to prune: exploring the efficacy of
        pruning for model compression", arXiv:1710.01878.

    Example:
        >>> model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(10)])
        >>> train = kopt.tfmot.Fit(np.ones((64, 20)), np.ones((64, 10)), "mse")
        >>> schedule = kopt.pruning.ConstantSparsity(0.75, begin_step=0, frequency=1)
        >>> pruned = kopt.tfmot.prune_low_magnitude(model, schedule, train=train)
        >>> float(np.mean(pruned.layers[0].kernel.numpy() == 0))
        0.75
    """
    keras_model("model", model)
    checked_train(train)
    sparsity = tfmot().sparsity.keras
    arguments: dict[str, Any] = {
        "block_size": block_size,
        "block_pooling_type": block_pooling_type,
        "sparsity_m_by_n": sparsity_m_by_n,
    }
    if pruning_schedule is not None:
        arguments["pruning_schedule"] = _schedule(pruning_schedule)
    names = _flow.chosen_names(model, layers)
    policy = _policy(names, pruning_policy)
    twin = to_tf_keras(model, converters)
    try:
        wrapped = sparsity.prune_low_magnitude(twin, pruning_policy=policy, **arguments)
    except ValueError as error:
        raise _flow.refusal(error) from error
    callback = sparsity.UpdatePruningStep()
    train(wrapped, [callback])
    _finish(wrapped, callback)
    return _flow.returned(sparsity.strip_pruning(wrapped), model)


def _schedule(schedule: Any) -> Any:
    sparsity = tfmot().sparsity.keras
    if isinstance(schedule, sparsity.PruningSchedule):
        return schedule
    if type(schedule) in (ConstantSparsity, PolynomialDecay):
        return getattr(sparsity, type(schedule).__name__)(**schedule.get_config())
    raise TypeError(
        "`pruning_schedule` must be a schedule of TF-MOT, a "
        "kopt.pruning.ConstantSparsity or a kopt.pruning.PolynomialDecay. Received: "
        f"{schedule!r}."
    )


def _policy(names: set[str] | None, policy: Any) -> Any:
    """A policy that allows the chosen layers, as far as the user's own allows them."""
    if names is None:
        return policy
    chosen = names

    class Chosen(tfmot().sparsity.keras.PruningPolicy):  # type: ignore[misc]
        def allow_pruning(self, layer: Any) -> bool:
            allowed = policy is None or policy.allow_pruning(layer)
            return allowed and layer.name in chosen

        def ensure_model_supports_pruning(self, model: Any) -> None:
            if policy is not None:
                policy.ensure_model_supports_pruning(model)

    return Chosen()


def _finish(wrapped: Any, callback: Any) -> None:
    """Put the masks on once more, as the callback does when an epoch ends.

    The last update of a training loop without epochs would undo them.
    """
    steps = [
        weight for weight in wrapped.weights if weight.name.endswith("pruning_step:0")
    ]
    if not steps:
        raise ValueError("No layer was wrapped: `layers` or the policy left none.")
    if max(int(np.max(step.numpy())) for step in steps) < 0:
        raise ValueError(
            "`train` must train the model that it is given, with the callbacks that it "
            "is given: `model.fit(..., callbacks=callbacks)`. No step was made."
        )
    callback.set_model(wrapped)
    callback.on_epoch_end(0)
