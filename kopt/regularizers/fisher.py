from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kopt import _checks
from kopt._data import Pair, in_batches, read, specs_of
from kopt._registry import register

_OUTPUTS = ("probabilities", "logits", "means")
_LABELS = ("sampled", "all", "given")
# Smaller probabilities, whose logarithm has no bound, are taken as this.
_SMALLEST = 1e-7

Squares = Callable[[Any, Any, tf.Tensor], list[tf.Tensor]]


@register("regularizers")
def estimate_fisher(
    model: keras.Model,
    data: Any,
    *,
    outputs: str = "probabilities",
    labels: str = "sampled",
    samples: int | None = None,
    seed: int | None = None,
) -> list[np.ndarray]:
    """The diagonal of the Fisher information: how much each weight matters to a model.

    It is the mean over samples of the squared gradient of the log-likelihood of a
    label, which is drawn from the model's own prediction. Each sample has a gradient of
    its own, so this takes about as long as training on batches of one.

    Args:
        model: A built Keras model with one input and one output.
        data: An array of inputs, a pair `(inputs, labels)` of arrays, a
            `tf.data.Dataset`, a `keras.utils.PyDataset`, or batches.
        outputs: What the model puts out: `"probabilities"` or `"logits"` of classes on
            the last axis (of one class and its opposite, where that axis has size 1),
            or `"means"` of normal distributions with variance 1.
        labels: `"sampled"` draws one label for each sample. `"all"` takes every class
            as often as it is predicted, which is exact, and takes a gradient for each.
            `"given"` takes those of the data: the empirical Fisher information.
        samples: How many samples to take. Defaults to all.
        seed: Seed of the labels that are drawn.

    Returns:
        One float32 array for each of `model.weights`; zeros for those that are not
        trained.

    Raises:
        ValueError: If an argument is none of those named, if the data have no samples,
            or lack labels that are to be taken.

    References:
        Kirkpatrick et al.: Overcoming catastrophic forgetting in neural networks, 2016,
        arXiv:1612.00796. On drawn and given labels: Kunstner, Balles, Hennig:
        Limitations of the Empirical Fisher Approximation for Natural Gradient Descent,
        2019, arXiv:1905.12558.

    Example:

    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> fisher = kopt.regularizers.estimate_fisher(
    ...     model, np.array([[1.0], [3.0]]), outputs="means", labels="all"
    ... )
    >>> [array.tolist() for array in fisher]  # the mean of squares of the inputs, and 1
    [[[5.0]], [1.0]]
    """
    _checks.keras_model("model", model)
    _checks.one_of("outputs", outputs, _OUTPUTS)
    _checks.one_of("labels", labels, _LABELS)
    if samples is not None:
        _checks.integer("samples", samples, low=1)
    variables = [v for v in model.trainable_variables if v.dtype.startswith("float")]
    squares = _squares_of(model, variables, outputs, labels)
    first_seed = np.random.default_rng(seed).integers(1 << 31)
    total = [np.zeros(variable.shape, "float64") for variable in variables]
    count = 0
    for pair in itertools.islice(_one_by_one(model, data), samples):
        if labels == "given" and pair.y is None:
            raise ValueError(
                "`data` must be pairs of inputs and labels for labels='given'. "
                "Received: inputs alone. Give the labels, or take labels='sampled'."
            )
        label = None if labels != "given" else tf.constant(np.asarray(pair.y))
        found = squares(pair.x, label, tf.constant([first_seed, count], "int64"))
        total = [one + two.numpy() for one, two in zip(total, found, strict=True)]
        count += 1
    if not count:
        raise ValueError("`data` must have samples. Received: none.")
    means = {
        id(variable): (one / count).astype("float32")
        for variable, one in zip(variables, total, strict=True)
    }
    return [
        means.get(id(weight), np.zeros(weight.shape, "float32"))
        for weight in model.weights
    ]


def _one_by_one(model: keras.Model, data: Any) -> Iterator[Pair]:
    specs = specs_of(model)
    for pair in in_batches(read("data", data, specs), 1, specs):
        for index in range(len(keras.tree.flatten(pair.x)[0])):
            yield Pair(_row(pair.x, index), _row(pair.y, index))


def _row(batch: Any, index: int) -> Any:
    if batch is None:
        return None
    return keras.tree.map_structure(lambda one: one[index : index + 1], batch)


def _squares_of(
    model: keras.Model, variables: list[keras.Variable], outputs: str, labels: str
) -> Squares:
    """A function of one sample that gives squared gradients of its log-likelihood."""
    values = [variable.value for variable in variables]

    @tf.function(reduce_retracing=True)
    def squares(inputs: Any, label: Any, seed: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            prediction = model(inputs, training=False)
            if not tf.is_tensor(prediction):
                raise ValueError(
                    "`model` must have one output. Received: "
                    f"{keras.tree.map_structure(lambda one: one.shape, prediction)}."
                )
            terms, shares = _terms(
                tf.cast(prediction, "float32"), outputs, labels, label, seed
            )
        slopes = tape.jacobian(
            terms,
            values,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
            # Few layers lack a vectorized gradient, but any may be among a user's.
            experimental_use_pfor=False,
        )
        return [
            tf.tensordot(shares, tf.square(tf.cast(slope, "float32")), 1)
            for slope in slopes
        ]

    return squares


def _terms(
    prediction: tf.Tensor, outputs: str, labels: str, label: Any, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Log-likelihoods of one sample, and with which shares their squares count.

    Places of an image and steps of a sequence are predictions of their own, whose
    log-likelihoods are summed.
    """
    rows = tf.reshape(prediction, (-1, prediction.shape[-1]))
    if outputs == "means":
        return _normal_terms(rows, labels, label, seed)
    logarithms = _logarithms(rows, outputs)
    classes = logarithms.shape[-1]
    if labels == "all":
        if len(prediction.shape) > 2:
            raise ValueError(
                "labels='all' goes through the classes of one prediction a sample. The "
                f"model makes more: its output has the shape {prediction.shape}. Take "
                "labels='sampled'."
            )
        return logarithms[0], tf.exp(tf.stop_gradient(logarithms[0]))
    if labels == "sampled":
        drawn = tf.random.stateless_categorical(logarithms, 1, seed)[:, 0]
        chosen = tf.one_hot(drawn, classes)
    elif len(label.shape) == len(prediction.shape) and label.shape[-1] == classes:
        chosen = tf.cast(tf.reshape(label, (-1, classes)), "float32")
    else:
        chosen = tf.one_hot(tf.cast(tf.reshape(label, (-1,)), "int32"), classes)
    return tf.reduce_sum(chosen * logarithms)[None], tf.ones((1,))


def _normal_terms(
    means: tf.Tensor, labels: str, label: Any, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Terms for normal distributions of variance 1.

    The gradient of the log-likelihood of y is (y - mean) times that of the mean, so the
    mean over all y of its square is the sum of the squares of the latter.
    """
    if labels == "all":
        flat = tf.reshape(means, (-1,))
        return flat, tf.ones_like(flat)
    if labels == "sampled":
        apart = tf.random.stateless_normal(tf.shape(means), seed)
    else:
        apart = tf.cast(tf.reshape(label, tf.shape(means)), "float32") - means
    return tf.reduce_sum(tf.stop_gradient(apart) * means)[None], tf.ones((1,))


def _logarithms(rows: tf.Tensor, outputs: str) -> tf.Tensor:
    """Logarithms of the probabilities of classes, of shape (predictions, classes)."""
    alone = rows.shape[-1] == 1
    if outputs == "logits":
        if alone:
            rows = tf.concat([tf.zeros_like(rows), rows], axis=-1)
        return tf.nn.log_softmax(rows)
    if alone:
        rows = tf.concat([1 - rows, rows], axis=-1)
    return tf.math.log(tf.maximum(rows, _SMALLEST))
