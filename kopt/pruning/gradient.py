from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kopt._keras.model_state import state_kept
from kopt._registry import register
from kopt.pruning._criterion import Criterion

if TYPE_CHECKING:
    from kopt.pruning._group import MaskConstraint

Tensor = Any


@register("pruning")
class Gradient(Criterion):
    """Keep the weights that the loss would miss most, to first order.

    A weight's score is how much the loss on some samples would change if it were
    zero, by the first term of the Taylor series. The samples are passed through the
    model whenever masks are renewed, and at no other step. Before any training this
    is pruning at initialization (SNIP); while the model trains it is Taylor pruning.

        score = |weight * d loss / d weight|

    Args:
        x: Samples as `model` takes them: an array, or a dict or list of arrays; a few
            hundred that show all classes. They are stored with the masks.
        y: Their targets.
        loss: A loss of Keras or its name, or a function of `(y, outputs)`. Its mean is
            what counts.

    Raises:
        ValueError: If there are no samples, or as many targets; when a model is
            pruned, if the loss of it is not finite or does not depend on a weight.

    References:
        Molchanov et al., 2016, "Pruning Convolutional Neural Networks for Resource
        Efficient Inference", arXiv:1611.06440.
        Lee, Ajanthan & Torr, 2018, "SNIP: Single-shot Network Pruning based on
        Connection Sensitivity", arXiv:1810.02340.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.set_weights([np.array([[3.0], [1.0]]), np.zeros(1)])
    >>> x = np.array([[0.0, 1.0]])  # nothing ever comes in at the large weight
    >>> criterion = kopt.pruning.Gradient(x, [[3.0]], "mse")
    >>> model = kopt.pruning.prune_low_magnitude(
    ...     model, kopt.pruning.OneShot(0.5), criterion=criterion)
    >>> model.get_weights()[0].ravel()
    array([0., 1.], dtype=float32)
    """

    scores_together = True

    def __init__(self, x: Any, y: Any, loss: Any) -> None:
        self.x, self.y = _arrays(x), _arrays(y)
        self.loss = keras.losses.get(loss)
        counts = {len(one) for one in keras.tree.flatten((self.x, self.y))}
        if len(counts) != 1 or 0 in counts:
            raise ValueError(
                "`x` and `y` must have the same number of samples, at least one. "
                f"Received: {sorted(counts)}."
            )
        self._model: keras.Model | None = None

    def bind(self, model: keras.Model) -> None:
        self._model = model

    def scores(
        self, members: Sequence[MaskConstraint], candidates: Sequence[Tensor]
    ) -> list[Tensor]:
        if not self.ready or self._model is None:
            raise ValueError(
                "This Gradient came from a configuration and has no samples. Load the "
                "weights file of the pruned model too, or prune with a new one."
            )
        trained = [member for member in members if member.variable.trainable]
        variables = [member.variable for member in trained]
        with tf.GradientTape() as tape:
            with state_kept(self._model):
                outputs = self._model(_tensors(self.x), training=False)
            loss = ops.mean(self.loss(_tensors(self.y), outputs))
        if tf.executing_eagerly() and not np.isfinite(float(loss)):
            raise ValueError(
                f"The loss on the samples of `criterion` is {float(loss)}. Look at "
                "their values and scale, and at the model's."
            )
        gradients = tape.gradient(loss, [_copy_that_is_read(v) for v in variables])
        for variable, gradient in zip(variables, gradients, strict=True):
            if gradient is None:
                raise ValueError(
                    f"The loss of `criterion` does not depend on {variable.path!r}. "
                    "Choose the layers that it depends on with `layers`."
                )
        taken = dict(zip(map(id, trained), gradients, strict=True))
        pairs = zip(members, candidates, strict=True)
        return [_product(weights, taken.get(id(member))) for member, weights in pairs]

    def arrays(self) -> dict[str, Any]:
        flat = keras.tree.flatten((self.x, self.y))
        return {str(place): array for place, array in enumerate(flat)}

    def take_arrays(self, arrays: Mapping[str, Any]) -> None:
        flat = [np.array(arrays[str(place)]) for place in range(len(arrays))]
        self.x, self.y = keras.tree.pack_sequence_as((self.x, self.y), flat)
        self.ready = True

    def get_config(self) -> dict[str, Any]:
        # One number in the place of each array; the arrays are in the weights file.
        x, y = (keras.tree.map_structure(lambda _: 0, s) for s in (self.x, self.y))
        return {"x": x, "y": y, "loss": keras.saving.serialize_keras_object(self.loss)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Gradient:
        x, y = (
            keras.tree.map_structure(lambda _: np.zeros(1), config[name])
            for name in ("x", "y")
        )
        criterion = cls(x, y, keras.saving.deserialize_keras_object(config["loss"]))
        criterion.ready = False
        return criterion


def _copy_that_is_read(variable: Any) -> Any:
    """A variable, or of one that is mirrored the copy that was computed with."""
    if tf.distribute.in_cross_replica_context():
        strategy = tf.distribute.get_strategy()
        return strategy.experimental_local_results(variable.value)[0]
    return variable.value


def _product(weights: Tensor, gradient: Any) -> Tensor:
    weights = ops.cast(weights, "float32")
    if gradient is None:
        # Statistics, which follow their unit and are not scored themselves.
        return ops.zeros_like(weights)
    return ops.abs(weights * ops.cast(tf.convert_to_tensor(gradient), "float32"))


def _arrays(given: Any) -> Any:
    """Arrays in the structure that they were given in."""
    leaves = keras.tree.flatten(given)
    if leaves and all(np.ndim(leaf) for leaf in leaves):
        return keras.tree.map_structure(np.asarray, given)
    return np.asarray(given)


def _tensors(arrays: Any) -> Any:
    return keras.tree.map_structure(tf.convert_to_tensor, arrays)
