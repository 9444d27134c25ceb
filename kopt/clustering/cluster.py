from __future__ import annotations

import enum
from typing import Any, TypeVar

import keras
import tensorflow as tf

from kopt import _checks
from kopt._keras.compiled import forget_compiled_functions
from kopt._keras.layer_tree import with_nested_layers
from kopt._registry import register
from kopt._weights import Selection, chosen_weights, is_kernel, layers_of_weights
from kopt.clustering._carrier import carried_inside, carry
from kopt.clustering._weight import ClusteredWeight, Settings, layout
from kopt.clustering.centroid_initialization import (
    CentroidInitialization,
    checked_initialization,
)

Model = TypeVar("Model", bound=keras.Model)


@register("clustering", serializable=False)
def cluster_weights(
    model: Model,
    number_of_clusters: int,
    cluster_centroids_init: str = CentroidInitialization.KMEANS_PLUS_PLUS,
    preserve_sparsity: bool = False,
    cluster_per_channel: bool = False,
    cluster_gradient_aggregation: str = "SUM",
    layers: Selection | None = None,
) -> Model:
    """Let each weight of a model have a few different values only, and train these.

    The weights share centroids. With 16 of them a compressed file (gzip, zip) takes
    about a quarter of its size; one that is not compressed is as large as before.
    Cluster a model that is trained already, then `compile` it again, train a little at
    a small learning rate, and call `strip_clustering`, which leaves a plain model with
    the shared values.

    The model stays the model it was, for any training loop; make a `tf.function` of
    your own that was traced before again. It computes with the
    centroid that is nearest to each weight. Gradients go to the centroids, summed over
    their weights, and to the weights themselves, which may so move to another centroid.
    That is what TensorFlow Model Optimization does. `.keras` and weights files keep
    both. `layer.kernel` goes on showing the weights behind the centroids. Quantize the
    model before `strip_clustering` and train it, and the integers are few as well: in
    each channel that has a grid of its own no more than centroids.

    All trainable kernels and embeddings are clustered, at whatever depth: of dense,
    convolution, attention, recurrent and your own layers. A weight that has no more
    numbers than centroids is left as it is; `clustering_report` says so. Depthwise
    kernels, small as they are, may cost more accuracy than they save: leave them out
    with `layers`. Call it again with other `layers` to give them another number.

    Args:
        model: A built Keras 3 model. It is changed in place.
        number_of_clusters: How many different values a weight may have, from 2 on (3
            where sparsity is preserved).
        cluster_centroids_init: A `CentroidInitialization`, or its name.
        preserve_sparsity: Whether weights that are zero stay zero. One centroid is zero
            then, for good, and what it holds at first stays with it.
        cluster_per_channel: Whether each output channel of a convolution gets centroids
            of its own, as the grids of int8 kernels are its own. Other weights have one
            set in any case.
        cluster_gradient_aggregation: `"SUM"` or `"AVG"`: whether a centroid's gradient
            is the sum or the mean over its weights.
        layers: The layers to cluster, with all inside them: layers, or regular
            expressions for whole names or paths. Or a function from a layer to a bool.

    Returns:
        `model` itself.

    Raises:
        TypeError: If `model` is not a Keras 3 model, or a number is not whole.
        ValueError: If the model is not built, has NaN weights, has nothing to cluster,
            or has been clustered there already; if a number is too small.

    References:
        Han, Mao & Dally, 2016, "Deep Compression: Compressing Deep Neural Networks with
        Pruning, Trained Quantization and Huffman Coding", arXiv:1510.00149.

    Example:

    >>> model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(10)])
    >>> model = kopt.clustering.cluster_weights(model, 8)
    >>> model.compile("adam", "mse")
    >>> history = model.fit(np.ones((8, 20)), np.ones((8, 10)), verbose=0)
    >>> model = kopt.clustering.strip_clustering(model)
    >>> len(np.unique(model.layers[0].kernel))
    8
    """
    _checks.finite_weights("model", _checks.keras_model("model", model))
    _checks.no_adapters("model", model)
    settings = Settings(
        _checked_number(number_of_clusters, preserve_sparsity),
        checked_initialization("cluster_centroids_init", cluster_centroids_init),
        bool(preserve_sparsity),
        bool(cluster_per_channel),
        _averages(cluster_gradient_aggregation),
    )
    _check_call(model)
    weights, too_small = _weights(model, settings, layers)
    carry(model, weights, too_small)
    for weight in weights:
        weight.start()
    forget_compiled_functions(model)
    return model


def _checked_number(number: Any, preserve_sparsity: bool) -> int:
    if not preserve_sparsity:
        hint = "One value for a whole weight would be no weight at all."
        return _checks.integer("number_of_clusters", number, low=2, hint=hint)
    hint = "With `preserve_sparsity` one centroid is zero, and two are for the signs."
    return _checks.integer("number_of_clusters", number, low=3, hint=hint)


def _averages(aggregation: Any) -> bool:
    # TensorFlow Model Optimization has an enum of texts for it.
    text = aggregation.value if isinstance(aggregation, enum.Enum) else aggregation
    name = str(text).rpartition(".")[2].upper()
    return _checks.one_of("cluster_gradient_aggregation", name, ("SUM", "AVG")) == "AVG"


def _check_call(model: keras.Model) -> None:
    for layer in with_nested_layers(model):
        if isinstance(type(layer).call, tf.types.experimental.PolymorphicFunction):
            raise ValueError(
                f"The `call` of {layer.name!r} is a tf.function, which would not "
                "notice that weights inside are clustered. Take the decorator away: "
                "`fit` and `predict` compile the model in any case."
            )


def _weights(
    model: keras.Model, settings: Settings, selection: Selection | None
) -> tuple[list[ClusteredWeight], list[keras.Variable]]:
    """The chosen weights, and those among them that have too few numbers."""
    owners = layers_of_weights(model)
    declared = {
        id(variable)
        for layer in with_nested_layers(model)
        for variable in _declared(layer)
    }
    kernels = [
        variable
        for variable in model.trainable_weights
        if id(variable) in declared or is_kernel(variable)
    ]
    chosen = chosen_weights(model, selection, owners)
    wanted = [variable for variable in kernels if id(variable) in chosen]
    _check_new(model, wanted)
    small = [
        variable
        for variable in wanted
        if layout(variable, owners[id(variable)], settings).length
        <= settings.number_of_clusters
    ]
    small_ones = set(map(id, small))
    weights = [
        ClusteredWeight(variable, owners[id(variable)], settings)
        for variable in wanted
        if id(variable) not in small_ones
    ]
    if not weights:
        raise ValueError(_nothing_left(model, kernels, wanted, settings))
    return weights, small


def _check_new(model: keras.Model, wanted: list[keras.Variable]) -> None:
    clustered = {
        id(weight.variable)
        for _, state in carried_inside(model)
        for weight in state.weights
    }
    again = [variable.path for variable in wanted if id(variable) in clustered]
    if again:
        raise ValueError(
            f"These weights are clustered already: {', '.join(again)}. Choose others "
            "with `layers`, or call `kopt.clustering.strip_clustering(model)` first."
        )


def _nothing_left(
    model: keras.Model,
    kernels: list[keras.Variable],
    wanted: list[keras.Variable],
    settings: Settings,
) -> str:
    if wanted:
        return (
            "None of the weights has more numbers than it would get centroids: "
            f"{', '.join(f'{one.path} {tuple(one.shape)}' for one in wanted)}. "
            f"Received: number_of_clusters={settings.number_of_clusters}, "
            f"cluster_per_channel={settings.per_channel}. Choose fewer clusters."
        )
    if kernels:
        return (
            "`layers` left nothing to cluster. Weights that can be clustered are: "
            f"{', '.join(variable.path for variable in kernels)}."
        )
    return (
        f"{model.name!r} has no trainable weight that can be clustered: a float kernel "
        "or embedding of rank 2 or more. Unfreeze layers with `layer.trainable = "
        "True`, or give your own layer a method `get_clusterable_weights()` that "
        "returns a list of its variables."
    )


def _declared(layer: keras.Layer) -> list[keras.Variable]:
    declare = getattr(layer, "get_clusterable_weights", None)
    declared = declare() if callable(declare) else []
    # TensorFlow Model Optimization asks for pairs of a name and a variable.
    return [one[1] if isinstance(one, tuple) else one for one in declared]
