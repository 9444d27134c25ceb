from __future__ import annotations

from typing import Any

import keras

from kopt import _checks
from kopt._keras.graphs import has_graph
from kopt._registry import register
from kopt.pruning._flow import Flow
from kopt.pruning._following import Removal, flow_of, removal_of
from kopt.pruning._rebuilding import Rebuilding


@register("pruning", serializable=False)
def remove_filters(model: keras.Model) -> keras.Model:
    """Build a model again without the filters, units and heads that do nothing.

    What goes is what the weights say: a channel that is zero, or constant in a way that
    the next layer's bias can take up, or that no weight looks at. So this is for models
    pruned with `prune_low_magnitude(..., structure="filters")` or `"heads"` and for
    models pruned by other means. The outputs stay what they were, but for rounding.

    Channels are followed through sums, products, concatenations, depthwise and
    separable convolutions, batch normalization, activations, pooling, padding,
    reshaping, layers that are called several times and models inside the model. What
    cannot be followed, such as layer normalization or a layer of your own, keeps all
    its channels; `filter_report` tells where.

    Args:
        model: A functional or sequential model, pruned or not. It stays as it is.

    Returns:
        A new model, not compiled, of plain Keras layers with fewer filters. It has the
        same names, and at least one channel everywhere.

    Raises:
        TypeError: If `model` is not a Keras 3 model.
        ValueError: If it is not built, or is neither functional nor sequential; if a
            layer with weights cannot be made again from its configuration.

    Example:

    >>> model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(64, "relu")])
    >>> model.add(keras.layers.Dense(10))
    >>> schedule = kopt.pruning.ConstantSparsity(0.75, begin_step=1)
    >>> kopt.pruning.prune_low_magnitude(model, schedule, structure="filters").name
    'sequential'
    >>> kopt.pruning.remove_filters(model).layers[0].units
    16
    """
    flow, removal = followed(model)
    return Rebuilding(flow, removal).model(model)


def followed(model: Any) -> tuple[Flow, Removal]:
    """The flow of a model that can be rewritten, and what can go."""
    _checks.keras_model("model", model)
    if not has_graph(model):
        raise ValueError(
            "`model` must be a functional or sequential model: only its graph tells "
            f"where channels go. Received: model of class {type(model).__name__}, "
            "which computes in its own `call`. Build it with the functional API and "
            "copy the weights with `set_weights`, or apply this to the functional "
            "models inside it."
        )
    flow = flow_of(model)
    return flow, removal_of(flow)
