"""What may happen to a model in training. Each event says how it is done."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import kopt
from tests.generated.building import layers_in
from tests.generated.description import Description
from tests.generated.training import MODES, Training


@dataclass(frozen=True, repr=False)
class Fit(Description):
    """Some batches of `fit`, perhaps with validation, or with `EvalWeights`."""

    batches: int = 2
    validate: bool = False
    eval_weights: bool = False

    def happen(self, training: Training) -> list[float]:
        x, y = training.data(self.batches)
        callbacks = [kopt.callbacks.EvalWeights()] if self.eval_weights else []
        callbacks += training.callbacks
        history = training.model.fit(
            x,
            y,
            batch_size=training.batch,
            shuffle=False,
            verbose=0,
            callbacks=callbacks,
            validation_data=(x, y) if self.validate else None,
            validation_batch_size=training.batch,
        ).history
        return [value for values in history.values() for value in values]


@dataclass(frozen=True, repr=False)
class TrainOnBatch(Description):
    """Batches one by one, after which the model holds the weights that it trains."""

    batches: int = 1

    def happen(self, training: Training) -> list[float]:
        step = training.model.train_on_batch
        return [
            float(step(*training.data(), return_dict=True)["loss"])
            for _ in range(self.batches)
        ]


@dataclass(frozen=True, repr=False)
class Step(Description):
    """A step of a loop of one's own, in which some gradients are `None`.

    Args:
        missing: Positions among the trainable variables, counted around. One gradient
            is always left.
    """

    missing: tuple[int, ...] = ()

    def happen(self, training: Training) -> list[float]:
        model = training.model
        variables = model.trainable_variables
        x, y = training.data()
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x, y, model(x, training=True))
            scaled = model.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, [variable.value for variable in variables])
        for place in missing_places(self.missing, gradients):
            gradients[place] = None
        training.left_out = {
            training.name_of(variable)
            for variable, gradient in zip(variables, gradients, strict=True)
            if gradient is None
        }
        model.optimizer.apply(gradients, variables)
        return [float(loss)]


def missing_places(missing: tuple[int, ...], gradients: list[Any]) -> set[int]:
    """Which gradients to leave out, so that one stays."""
    there = [place for place, gradient in enumerate(gradients) if gradient is not None]
    chosen = {place % len(gradients) for place in missing}
    return chosen if set(there) - chosen else chosen - {there[0]}


@dataclass(frozen=True, repr=False)
class Evaluate(Description):
    """`evaluate` on a batch."""

    def happen(self, training: Training) -> list[float]:
        x, y = training.situation.model.rows(0, training.batch)
        return [training.model.evaluate(x, y, verbose=0, return_dict=True)["loss"]]


@dataclass(frozen=True, repr=False)
class Predict(Description):
    """`predict` on a batch."""

    def happen(self, training: Training) -> None:
        x, _ = training.situation.model.rows(0, training.batch)
        training.model.predict(x, verbose=0)


@dataclass(frozen=True, repr=False)
class SetWeights(Description):
    """New weights for the whole model, a good way from the present ones."""

    def happen(self, training: Training) -> None:
        training.model.set_weights(weights_to_set(training))


def weights_to_set(training: Training) -> list[np.ndarray]:
    """The first weights of a training, each trainable one moved by 1."""
    generator = np.random.default_rng(5)
    trained = {id(variable) for variable in training.model.trainable_variables}
    return [
        value + np.sign(generator.normal(size=value.shape)).astype(value.dtype)
        if id(variable) in trained
        else value
        for variable, value in zip(training.model.weights, training.first, strict=True)
    ]


@dataclass(frozen=True, repr=False)
class Assign(Description):
    """One trainable variable is set by hand; its position is counted around."""

    place: int = 0

    def happen(self, training: Training) -> None:
        variables = training.model.trainable_variables
        variable = variables[self.place % len(variables)]
        variable.assign(keras.ops.cast(variable, "float32") + 1.0)


@dataclass(frozen=True, repr=False)
class Freeze(Description):
    """A layer of the trunk is frozen, and the model compiled again as it was."""

    place: int = 0
    trainable = False

    def happen(self, training: Training) -> None:
        name = f"layer_{self.place}"
        for layer in layers_in(training.model):
            if layer.name == name:
                layer.trainable = self.trainable
        if self.trainable:
            training.frozen.discard(name)
        else:
            training.frozen.add(name)
        training.compile()


@dataclass(frozen=True, repr=False)
class Unfreeze(Freeze):
    """A layer that was frozen on the way is trained again."""

    trainable = True


@dataclass(frozen=True, repr=False)
class Recompile(Description):
    """The model is compiled again with the same optimizer."""

    def happen(self, training: Training) -> None:
        training.compile()


@dataclass(frozen=True, repr=False)
class SaveAndLoad(Description):
    """Another process goes on, from a file: `.keras`, `.weights.h5` or `.h5`."""

    suffix: str = ".keras"

    def happen(self, training: Training) -> None:
        with tempfile.TemporaryDirectory() as folder, training.scope():
            path = Path(folder) / f"model{self.suffix}"
            if self.suffix == ".weights.h5":
                training.model.save_weights(path)
                _rebuild(training)
                training.model.load_weights(path)
            else:
                training.model.save(path)
                training.model = keras.saving.load_model(path)
            if self.suffix == ".h5":
                _run_as_before(training)


def _run_as_before(training: Training) -> None:
    """Bring back what an `.h5` file does not hold, and other rounding comes from."""
    mode = {"run_eagerly": False, **MODES[training.situation.mode]}
    for name, value in mode.items():
        setattr(training.model, name, value)


def _rebuild(training: Training) -> None:
    """The same script from its start, up to where it loads the weights."""
    model = training.built_model()
    for apply in training.changes:
        apply(model)
    training.compile(training.situation.optimizer.build(), model)
    training.model = model
    model.optimizer.build(model.trainable_variables)
    for layer in layers_in(model):
        if layer.name in training.frozen:
            layer.trainable = False
    training.compile()


@dataclass(frozen=True, repr=False)
class Clone(Description):
    """The model is cloned, and trained on with a new optimizer of the same kind."""

    def happen(self, training: Training) -> None:
        with training.scope():
            clone = keras.models.clone_model(training.model)
            clone.set_weights(training.model.get_weights())
            for layer in layers_in(clone):
                if layer.name in training.frozen:
                    layer.trainable = False
            training.compile(training.situation.optimizer.build(), clone)
            training.model = clone


@dataclass(frozen=True, repr=False)
class BatchSize(Description):
    """From here on batches have another size."""

    size: int = 6

    def happen(self, training: Training) -> None:
        training.batch = self.size


@dataclass(frozen=True, repr=False)
class NotANumber(Description):
    """A batch with a NaN among its targets, which loss scaling has to leave out."""

    def happen(self, training: Training) -> None:
        x, y = training.situation.model.rows(0, training.batch)
        for targets in tf.nest.flatten(y):
            targets[0] = np.nan
        training.model.train_on_batch(x, y)


@dataclass(frozen=True, repr=False)
class Penalize(Description):
    """Kernels get a penalty on their output units."""

    factor: float = 0.01

    def happen(self, training: Training) -> None:
        training.change(self.applied)

    def applied(self, model: keras.Model) -> None:
        penalty = kopt.regularizers.GroupLasso(self.factor)
        kopt.regularizers.apply(model, {".*": penalty})


@dataclass(frozen=True, repr=False)
class Prune(Description):
    """From here on a share of each kernel is zero."""

    sparsity: float = 0.5

    def happen(self, training: Training) -> None:
        training.change(self.applied)

    def applied(self, model: keras.Model) -> None:
        schedule = kopt.pruning.ConstantSparsity(self.sparsity, 1, frequency=2)
        kopt.pruning.prune_low_magnitude(model, schedule)
