"""What every hypermodel shares: its space, its size limit, how it is trained."""

from __future__ import annotations

import abc
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import keras
import keras_tuner

from kopt import _checks
from kopt.tuning import _training

_LEVELS = ("small", "full")


class NetworkHyperModel(keras_tuner.HyperModel, abc.ABC):
    """A search space of networks that map one input to classes or to numbers.

    A subclass declares its architecture's hyperparameters and builds the network for
    a set of values; the rest is here.
    """

    # Values of the architecture's hyperparameters where the space has none.
    architecture_defaults: ClassVar[dict[str, Any]] = {}
    # The same names with the values that make a network largest.
    architecture_largest: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        input_shape: Sequence[int],
        *,
        classes: int | None = None,
        targets: int | None = None,
        level: str = "small",
        optimizers: Sequence[str] = ("adamw", "sgd", "rmsprop", "lion"),
        batch_sizes: Sequence[int] | None = (32, 64, 128),
        widths: Sequence[int],
        depths: Sequence[int],
        size_limit: int | None = None,
        schedule_epochs: int | None = None,
        loss: Any = None,
        metrics: Any = None,
        seed: int | None = None,
        name: str | None = None,
    ):
        super().__init__(name=name)
        if (classes is None) == (targets is None):
            raise ValueError(
                "Give either `classes` (for classification) or `targets` (for "
                f"regression). Received: classes={classes!r}, targets={targets!r}."
            )
        self.input_shape = _positive("input_shape", input_shape)
        self.classes = _optional("classes", classes, low=2)
        self.targets = _optional("targets", targets, low=1)
        self.level = _checks.one_of("level", level, _LEVELS)
        known = sorted(_training.known_optimizers())
        self.optimizers = tuple(
            _checks.one_of("optimizers", name, known) for name in optimizers
        )
        self.batch_sizes = (
            None if batch_sizes is None else _positive("batch_sizes", batch_sizes)
        )
        self.widths = tuple(sorted(_positive("widths", widths)))
        self.depths = tuple(sorted(_positive("depths", depths)))
        self.schedule_epochs = _optional("schedule_epochs", schedule_epochs, low=1)
        self.loss = loss
        self.metrics = metrics
        self.seed = _optional("seed", seed, low=0)
        self.size_limit = self._checked_limit(size_limit)
        self._runs: Counter[str] = Counter()

    @abc.abstractmethod
    def declare_architecture(self, hp: keras_tuner.HyperParameters, level: str) -> None:
        """Enter the architecture's hyperparameters, but for width and depth."""

    @abc.abstractmethod
    def network(self, values: Mapping[str, Any]) -> keras.Model:
        """The network, not compiled, for a set of values."""

    def space(self, level: str | None = None) -> keras_tuner.HyperParameters:
        """The whole search space, as a tuner will see it before the first trial.

        Narrow or fix entries on a `keras_tuner.HyperParameters` of your own and give
        it to the tuner as `hyperparameters=`: what stands there wins.
        """
        level = _checks.one_of("level", level or self.level, _LEVELS)
        hp = keras_tuner.HyperParameters()
        self._declare(hp, level)
        return hp

    def declare_hyperparameters(self, hp: keras_tuner.HyperParameters) -> None:
        self._declare(hp, self.level)

    def values(self, hp: keras_tuner.HyperParameters) -> dict[str, Any]:
        """Every value that a network is built from, searched or not.

        Where a `size_limit` made the network smaller than the trial asked for, these
        are the values that were used.
        """
        self._declare(hp, self.level)
        return self._fitted(hp)[0]

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        self._declare(hp, self.level)
        self._set_seed(hp)
        values, model = self._fitted(hp)
        model.compile(
            optimizer=_training.optimizer(values),
            loss=self.loss or self._usual_loss(),
            metrics=self._usual_metrics() if self.metrics is None else self.metrics,
        )
        # Hyperband loads a checkpoint right after this. With slots that exist, the
        # optimizer's moments and step count are loaded too, and training goes on.
        model.optimizer.build(model.trainable_variables)
        return model

    def fit(
        self, hp: keras_tuner.HyperParameters, model: keras.Model, *args: Any, **kwargs
    ) -> keras.callbacks.History:
        values = self._requested(hp)
        x, rest = (args[0], args[1:]) if args else (kwargs.pop("x"), ())
        if "batch_size" in values:
            x, kwargs = _training.batched(x, values["batch_size"], kwargs)
        callbacks = _training.callbacks(values, self.schedule_epochs)
        kwargs["callbacks"] = [*callbacks, *(kwargs.get("callbacks") or ())]
        self._set_seed(hp)
        history = model.fit(x, *rest, **kwargs)
        self._runs[_key(hp)] += 1
        return history

    def _declare(self, hp: keras_tuner.HyperParameters, level: str) -> None:
        hp.Choice("width", list(self.widths), ordered=True, default=self._middle())
        hp.Choice("depth", list(self.depths), ordered=True)
        self.declare_architecture(hp, level)
        _training.declare(hp, level, self.optimizers, self.batch_sizes)

    def _middle(self) -> int:
        return self.widths[(len(self.widths) - 1) // 2]

    def _requested(self, hp: keras_tuner.HyperParameters) -> dict[str, Any]:
        return {**self.architecture_defaults, **_training.DEFAULTS, **hp.values}

    def _fitted(
        self, hp: keras_tuner.HyperParameters
    ) -> tuple[dict[str, Any], keras.Model]:
        for values in self._ever_smaller(self._requested(hp)):
            model = self.network(values)
            if self.size_limit is None or model.count_params() <= self.size_limit:
                return values, model
        raise keras_tuner.errors.FailedTrialError(
            f"No network of this space has at most {self.size_limit} parameters: "
            f"even the smallest has {model.count_params()}."
        )

    def _ever_smaller(self, values: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The values asked for, then ever narrower, then ever shallower ones."""
        yield values
        for name, choices in (("width", self.widths), ("depth", self.depths)):
            asked = values[name]
            for choice in reversed(choices):
                if choice < asked:
                    values = {**values, name: choice}
                    yield values

    def _checked_limit(self, size_limit: int | None) -> int | None:
        if size_limit is None:
            return None
        searched = self.level == "full"
        smallest = {
            **_training.DEFAULTS,
            **(self.architecture_largest if searched else self.architecture_defaults),
            "width": self.widths[0],
            "depth": self.depths[0],
        }
        return _checks.integer(
            "size_limit",
            size_limit,
            low=self.network(smallest).count_params(),
            hint="Every network of the space can then be made to fit. Raise the limit "
            "or give smaller `widths`.",
        )

    def _set_seed(self, hp: keras_tuner.HyperParameters) -> None:
        # From the trial's own values, so that a trial's score depends neither on the
        # trials before it nor on an interruption; several runs of one trial differ.
        if self.seed is not None:
            keras.utils.set_random_seed(self.seed + self._runs[_key(hp)])

    def _usual_loss(self) -> str:
        return "sparse_categorical_crossentropy" if self.classes else "mse"

    def _usual_metrics(self) -> list[str]:
        return ["accuracy"] if self.classes else ["mae"]

    def batch_norm(self, x: Any) -> Any:
        """Batch normalization whose statistics keep up with a short trial.

        With Keras's momentum of 0.99 they are still half the initial ones after 70
        steps: a tuner that looks at validation would rank trials by that lag.
        """
        return keras.layers.BatchNormalization(momentum=0.9)(x)

    def head(self, x: Any) -> Any:
        """The output layer: probabilities of the classes, or the numbers."""
        x = keras.layers.Dense(self.classes or self.targets, name="outputs")(x)
        last = "softmax" if self.classes else "linear"
        # In float32 under mixed precision too: half precision loses probabilities.
        return keras.layers.Activation(last, dtype="float32", name="predictions")(x)


def _optional(name: str, value: int | None, low: int) -> int | None:
    return None if value is None else _checks.integer(name, value, low=low)


def _positive(name: str, values: Sequence[int]) -> tuple[int, ...]:
    checked = tuple(_checks.integer(name, value, low=1) for value in values)
    if not checked:
        raise ValueError(f"`{name}` must have at least one entry. Received: {values}.")
    return checked


def _key(hp: keras_tuner.HyperParameters) -> str:
    return repr(sorted(hp.values.items()))
