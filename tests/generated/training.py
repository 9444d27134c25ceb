"""Runs a described training: a model, an optimizer and what happens to them."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import kopt
from tests.generated.building import layers_in
from tests.generated.description import Description
from tests.generated.models import MODEL, Model
from tests.generated.optimizers import OPTIMIZER, Optimizer

MODES: dict[str, dict[str, Any]] = {
    "eager": {"run_eagerly": True},
    "graph": {"jit_compile": False},
    "jit": {"jit_compile": True},
}


@dataclass(frozen=True, repr=False)
class Situation(Description):
    """A training from its first step to its last.

    Args:
        model: What is trained.
        optimizer: What trains it.
        story: The events, in order.
        batch: How many samples a batch has.
        sharpness: Arguments of `kopt.sharpness_aware`, where it is used.
        mode: A key of `MODES`.
    """

    model: Model = MODEL
    optimizer: Optimizer = OPTIMIZER
    story: tuple[Any, ...] = ()
    batch: int = 4
    sharpness: dict[str, Any] = field(default_factory=dict)
    mode: str = "eager"


SITUATION = Situation()


@dataclass
class Record:
    """What a training was like after an event.

    Args:
        event: The event; `None` before the first.
        weights: Every weight of the model by position and path, with the states of
            stateful layers.
        losses: The losses that the event reported.
    """

    event: Any
    weights: dict[str, np.ndarray]
    losses: list[float]


class Training:
    """A situation under way.

    Args:
        situation: What to run.
        strategy: Where to run it; one device by default.
        nudge: Relative size of a random change to the first weights, to see how much
            a training makes of a difference in rounding.
    """

    def __init__(
        self, situation: Situation, strategy: Any = None, nudge: float = 0.0
    ) -> None:
        keras.utils.clear_session(free_memory=False)
        self.situation, self.strategy = situation, strategy
        self.batch, self.seen = situation.batch, 0
        #: What was done to the model, for when it is made again.
        self.changes: list[Callable[[keras.Model], None]] = []
        #: Callbacks that every `fit` gets.
        self.callbacks: list[keras.callbacks.Callback] = []
        #: Names of the variables that the last event left without a gradient.
        self.left_out: set[str] = set()
        with self.scope():
            self.model = self.built_model(nudge)
            self.compile(situation.optimizer.build())
        self.first = self.model.get_weights()
        #: Names of the layers that are frozen now.
        self.frozen = situation.model.frozen

    def scope(self) -> Any:
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()

    def built_model(self, nudge: float = 0.0) -> keras.Model:
        """The situation's model with its first weights, not compiled."""
        model = self.situation.model.build()
        if nudge:
            generator = np.random.default_rng(9)
            for variable in model.trainable_variables:
                noise = 1 + nudge * generator.choice((-1.0, 1.0), variable.shape)
                variable.assign(keras.ops.cast(variable, "float32") * noise)
        if self.situation.sharpness:
            model = kopt.sharpness_aware(model, **self.situation.sharpness)
        return model

    def compile(self, optimizer: Any = None, model: Any = None) -> None:
        """Compile the model, by default with the optimizer that it has."""
        model = model or self.model
        model.compile(
            optimizer or self.model.optimizer,
            self.situation.model.losses(),
            **MODES[self.situation.mode],
        )

    def change(self, apply: Callable[[keras.Model], None]) -> None:
        """Do something to the model that a script would do again to a new one."""
        self.changes.append(apply)
        apply(self.model)

    def run(self) -> list[Record]:
        """What the training was like at first and after each event."""
        records = [self.record(None, [])]
        records += [self.follow(event) for event in self.situation.story]
        return records

    def follow(self, event: Any) -> Record:
        """Let an event happen."""
        self.left_out = set()
        with quiet():
            return self.record(event, event.happen(self) or [])

    def record(self, event: Any, losses: list[float]) -> Record:
        return Record(event, self.weights(), losses)

    def data(self, batches: int = 1) -> tuple[Any, Any]:
        """The next batches of data, in one."""
        count = batches * self.batch
        self.seen += count
        return self.situation.model.rows(self.seen - count, count)

    @property
    def optimizer(self) -> Any:
        """The optimizer that takes the steps, without loss scaling around it."""
        optimizer = self.model.optimizer
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            optimizer = optimizer.inner_optimizer
        return optimizer

    def weights(self) -> dict[str, np.ndarray]:
        named = {f"{i} {w.path}": array(w) for i, w in enumerate(self.model.weights)}
        for layer in layers_in(self.model):
            if isinstance(layer, keras.layers.RNN) and layer.stateful:
                for place, state in enumerate(layer.states or []):
                    named[f"{layer.name} state {place}"] = array(state)
        return named

    def everything(self) -> dict[str, np.ndarray]:
        """The weights, the states, the seeds, and what the optimizer keeps."""
        optimizer = self.model.optimizer.variables
        found = self.weights()
        found |= {f"optimizer {i} {v.path}": array(v) for i, v in enumerate(optimizer)}
        for layer in layers_in(self.model):
            generator = getattr(layer, "seed_generator", None)
            if generator is not None:
                found[f"seed of {layer.name}"] = array(generator.state)
        return found

    def still(self) -> set[str]:
        """The weights that have no gradient, or are frozen, by the names above."""
        heads = self.situation.model.heads
        names = self.frozen | {f"head_{i}" for i, h in enumerate(heads) if not h.loss}
        held = [w for x in layers_in(self.model) if x.name in names for w in x.weights]
        found = {id(weight) for weight in held}
        return {
            f"{place} {weight.path}"
            for place, weight in enumerate(self.model.weights)
            if id(weight) in found and "seed_generator" not in weight.path
        }

    def name_of(self, variable: keras.Variable) -> str:
        """The name of a weight in `weights` and `still`."""
        places = {id(weight): place for place, weight in enumerate(self.model.weights)}
        return f"{places[id(variable)]} {variable.path}"


def array(variable: Any) -> np.ndarray:
    value = keras.ops.convert_to_numpy(variable)
    return np.array(value, "float64" if value.dtype == "float64" else "float32")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings that a situation is meant to bring about."""
    with warnings.catch_warnings():
        for expected in _EXPECTED:
            warnings.filterwarnings("ignore", f".*{expected}")
        yield


_EXPECTED = (
    "Gradients do not exist for variables",
    "You are saving your model as an HDF5 file",
    "Compiled the loaded model, but the compiled metrics",
    "The model does not have any trainable weights",
)


@functools.cache
def two_replicas() -> tf.distribute.Strategy:
    """Two logical processors, without collective operations (see `conftest.py`)."""
    return tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice()
    )
