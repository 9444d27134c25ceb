"""What a sharpness-aware model carries: its settings and LookSAM's memory."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from kopt._keras.saveable import KerasSaveable
from kopt.sharpness._settings import Settings


class SharpnessState(KerasSaveable, tf.Module):
    """Settings, and for LookSAM the step and a direction for each weight.

    Keras saves and loads it as a part of the model, under a name of its own, so that
    the model's own weights are stored as if it were plain. As a `tf.Module` it is in
    TensorFlow's checkpoints as well.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(name="sharpness")
        self.settings = settings
        self.step: tf.Variable | None = None
        self.directions: list[tf.Variable] = []
        self._of: tuple[int, ...] = ()

    def match(self, model: keras.Model) -> None:
        """Keep directions for the weights that are trainable now, if any are kept."""
        weights = model.trainable_variables
        of = tuple(map(id, weights))
        if self.settings.variant != "looksam" or of == tuple(self._of):
            return
        kept = dict(zip(self._of, self.directions, strict=True))
        with tf.init_scope(), model.distribute_strategy.scope():
            if self.step is None:
                self.step = _variable(tf.zeros((), tf.int64), "step")
            self.directions = [
                kept[id(weight)]
                if id(weight) in kept
                else _variable(_zeros(weight), f"direction_{place}")
                for place, weight in enumerate(weights)
            ]
        self._of = of

    def of(self, weights: Sequence[keras.Variable]) -> list[tf.Variable]:
        """The directions of some weights."""
        kept = dict(zip(self._of, self.directions, strict=True))
        return [kept[id(weight)] for weight in weights]

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        if self.step is None:
            return
        store["step"] = self.step.numpy()
        for place, direction in enumerate(self.directions):
            store[f"direction_{place}"] = direction.numpy()

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Read the memory; weights of a plain model let it start anew."""
        if self.step is None:
            return
        if "step" not in store:
            self.step.assign(tf.zeros_like(self.step))
            return
        count = len(store.keys()) - 1
        arrays = [store[f"direction_{place}"] for place in range(count)]
        shapes = [tuple(array.shape) for array in arrays]
        expected = [tuple(direction.shape) for direction in self.directions]
        if shapes != expected:
            raise ValueError(
                "The file's LookSAM directions are of other trainable weights than "
                f"the model's. In the file: {shapes}. In the model: {expected}. Freeze "
                "the same layers as when it was saved, or load the weights before "
                "`kopt.sharpness_aware`."
            )
        self.step.assign(store["step"])
        for direction, array in zip(self.directions, arrays, strict=True):
            direction.assign(array)

    def _obj_type(self) -> str:
        # Keras skips the attributes that all objects of a known kind have.
        return "Loss"


def _zeros(weight: keras.Variable) -> tf.Tensor:
    dtype = tf.float64 if weight.dtype == "float64" else tf.float32
    return tf.zeros(weight.shape, dtype)


def _variable(value: tf.Tensor, name: str) -> tf.Variable:
    # Replicas hold equal values, so one of them may speak for all.
    aggregation = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return tf.Variable(value, trainable=False, name=name, aggregation=aggregation)
