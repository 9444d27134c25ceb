from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from kopt import _checks
from kopt._registry import register
from kopt.tfmot._packages import tf_keras


@register("tfmot", serializable=False)
class Fit:
    """How `kopt.tfmot` trains: compile and fit, in tf_keras.

    It is a function that takes a model of tf_keras and the callbacks that TF-MOT needs,
    and trains the model. Where that is not enough, write such a function yourself.

    Args:
        x: Inputs as `fit` takes them: an array, a list or dict of arrays, or a
            `tf.data.Dataset` of batches with the targets in it.
        y: Targets. None where `x` has them.
        loss: Name of a loss, a function of targets and outputs, or a loss of tf_keras.
        optimizer: Name of an optimizer, or one of tf_keras. Defaults to `"adam"`.
        learning_rate: Its learning rate, where `optimizer` is a name. None keeps the
            default of tf_keras.
        epochs: How often to go through the data. Defaults to 1.
        batch_size: Samples to a step, where `x` is no data set. Defaults to 32.
        metrics: Metrics by name, as `compile` takes them.
        validation_data: `(x, y)` or a data set to evaluate after each epoch.
        verbose: 0 is silent, 1 shows a bar, 2 prints a line an epoch. Defaults to 0.

    Attributes:
        history: What the last training recorded, a list of values an epoch by name.

    Raises:
        TypeError, ValueError: If an argument is wrong. Optimizers and losses of Keras 3
            do not work in tf_keras: give their name.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        >>> twin = kopt.tfmot.to_tf_keras(model)
        >>> x = np.ones((64, 4), "float32")
        >>> train = kopt.tfmot.Fit(x, x[:, :1], "mse", "sgd", epochs=3)
        >>> train(twin, callbacks=[])
        >>> train.history["loss"][0] > train.history["loss"][-1]
        True
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        loss: Any = None,
        optimizer: Any = "adam",
        learning_rate: float | None = None,
        epochs: int = 1,
        batch_size: int = 32,
        metrics: Sequence[str] = (),
        validation_data: Any = None,
        verbose: int = 0,
    ) -> None:
        self.x, self.y = x, y
        if loss is None:
            raise ValueError(
                "`loss` must be given. Received: loss=None. For class numbers it is "
                "'sparse_categorical_crossentropy', for real targets 'mse'."
            )
        self.loss = _of_tf_keras("loss", loss, keras.losses.Loss)
        self.optimizer = _of_tf_keras(
            "optimizer", optimizer, keras.optimizers.Optimizer
        )
        if learning_rate is not None:
            _checks.number("learning_rate", learning_rate, low=0.0, low_open=True)
            if not isinstance(optimizer, str):
                raise ValueError(
                    "`learning_rate` goes with the name of an optimizer. Received: "
                    f"learning_rate={learning_rate!r} and optimizer={optimizer!r}. Set "
                    "it in the optimizer."
                )
        self.learning_rate = learning_rate
        self.epochs = _checks.integer("epochs", epochs, low=1)
        self.batch_size = _checks.integer("batch_size", batch_size, low=1)
        self.metrics = list(metrics)
        self.validation_data = validation_data
        self.verbose = _checks.one_of("verbose", verbose, (0, 1, 2))
        self.history: dict[str, list[float]] = {}

    def __call__(self, model: Any, callbacks: Sequence[Any]) -> None:
        """Train a model of tf_keras with the callbacks that TF-MOT asks for."""
        model.compile(self._optimizer(), self.loss, metrics=self.metrics)
        # A data set comes in batches already.
        sized = {} if _is_dataset(self.x) else {"batch_size": self.batch_size}
        record = model.fit(
            self.x,
            self.y,
            epochs=self.epochs,
            validation_data=self.validation_data,
            callbacks=list(callbacks),
            verbose=self.verbose,
            **sized,
        )
        self.history = record.history

    def _optimizer(self) -> Any:
        optimizer = tf_keras().optimizers.get(self.optimizer)
        if not isinstance(self.optimizer, str):
            # A new one each time: an optimizer keeps to the variables it has met.
            return type(optimizer).from_config(optimizer.get_config())
        if self.learning_rate is not None:
            optimizer.learning_rate = self.learning_rate
        return optimizer


def checked_train(train: Any) -> Callable[[Any, list[Any]], None]:
    """What the user gave to train with."""
    if not callable(train):
        raise TypeError(
            "`train` must be a kopt.tfmot.Fit(x, y, loss), or a function that takes a "
            "tf_keras model and a list of callbacks and trains the model with them. "
            f"Received: train={train!r}."
        )
    return train  # type: ignore[no-any-return]


def _of_tf_keras(name: str, value: Any, newer: type) -> Any:
    if isinstance(value, newer):
        raise TypeError(
            f"`{name}` must be a name or an object of tf_keras, where TF-MOT trains. "
            f"Received an object of Keras 3: {name}={value!r}. Give its name, such as "
            f"'{'adam' if name == 'optimizer' else 'mse'}'."
        )
    return value


def _is_dataset(x: Any) -> bool:
    return hasattr(x, "element_spec") or hasattr(x, "__next__")
