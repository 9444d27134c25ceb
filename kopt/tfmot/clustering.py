from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import keras

from kopt import _checks
from kopt._registry import register
from kopt.tfmot import _flow
from kopt.tfmot._checking import keras_model
from kopt.tfmot._flow import Selection
from kopt.tfmot._packages import tfmot
from kopt.tfmot.fit import checked_train
from kopt.tfmot.to_older import to_tf_keras


@register("tfmot", serializable=False)
def cluster_weights(
    model: keras.Model,
    number_of_clusters: int,
    cluster_centroids_init: Any = "KMEANS_PLUS_PLUS",
    *,
    train: Callable[[Any, list[Any]], None] | None = None,
    preserve_sparsity: bool = False,
    cluster_per_channel: bool = False,
    layers: Selection | None = None,
    converters: Mapping[type, Callable[[keras.Layer], Any]] | None = None,
) -> keras.Model:
    """Share the weights of a Keras 3 model with TensorFlow Model Optimization itself.

    The model goes to tf_keras, TF-MOT replaces each kernel by a few values and the
    choice among them, `train` trains both there, and the weights come back. The model
    should have learned its task before.

    Args:
        model: A built sequential or functional Keras 3 model. It is not changed.
        number_of_clusters: Values that a kernel has at most, 2 or more.
        cluster_centroids_init: How the first values are chosen: `"LINEAR"`, `"RANDOM"`,
            `"DENSITY_BASED"` or `"KMEANS_PLUS_PLUS"`, or TF-MOT's constant.
        train: `kopt.tfmot.Fit(x, y, loss)`, or a function of a tf_keras model and a
            list of callbacks that trains the model. None clusters the weights as they
            are.
        preserve_sparsity: Whether weights that are zero stay zero.
        cluster_per_channel: Whether each filter of a `Conv2D` has values of its own.
        layers: The layers to cluster, by name, as layers, or by a function of the
            layer. None is all of them, which TF-MOT refuses if it does not know one.
        converters: As for `to_tf_keras`.

    Returns:
        A copy of `model`, of the same kind, with the clustered weights. It is compiled
        if `model` is, with a new optimizer.

    Raises:
        UnsupportedLayerError: If layers have no counterpart in tf_keras.
        ValueError: If TF-MOT refuses the model.
        TypeError: If an argument is of a wrong kind.

    References:
        Han, Mao & Dally, 2015, "Deep Compression: Compressing Deep Neural Networks with
        Pruning, Trained Quantization and Huffman Coding", arXiv:1510.00149.

    Example:
        >>> model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(10)])
        >>> clustered = kopt.tfmot.cluster_weights(model, 8)
        >>> len(np.unique(model.layers[0].kernel))
        200
        >>> len(np.unique(clustered.layers[0].kernel)) <= 8
        True
    """
    keras_model("model", model)
    _checks.integer("number_of_clusters", number_of_clusters, low=2)
    if train is not None:
        checked_train(train)
    clustering = tfmot().clustering.keras
    init = _centroids(cluster_centroids_init, clustering.CentroidInitialization)
    names = _flow.chosen_names(model, layers)

    def wrap(layer: Any) -> Any:
        return clustering.cluster_weights(
            layer,
            number_of_clusters,
            init,
            preserve_sparsity=preserve_sparsity,
            cluster_per_channel=cluster_per_channel,
        )

    twin = to_tf_keras(model, converters)
    try:
        wrapped = _flow.wrapped(twin, names, wrap)
    except ValueError as error:
        raise _flow.refusal(error) from error
    if train is not None:
        train(wrapped, [])
    with warnings.catch_warnings():
        # It looks through a layer that it copies from its configuration.
        warnings.simplefilter("ignore", DeprecationWarning)
        stripped = clustering.strip_clustering(wrapped)
    return _flow.returned(stripped, model)


def _centroids(value: Any, kinds: Any) -> Any:
    if isinstance(value, kinds):
        return value
    names = [kind.name for kind in kinds]
    name = value.upper() if isinstance(value, str) else value
    return kinds[_checks.one_of("cluster_centroids_init", name, names)]
