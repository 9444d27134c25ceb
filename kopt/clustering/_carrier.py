"""What lets a clustered model be saved with its centroids and how they are used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import keras

from kopt._keras.attached_state import Carrier, own_arrays, put_on, registered, take_off
from kopt._keras.layer_tree import with_nested_layers
from kopt._weights import layers_of_weights
from kopt.clustering._hook import hook, unhook
from kopt.clustering._weight import ClusteredWeight, Settings
from kopt.clustering.centroid_initialization import CentroidInitialization


@dataclass
class ClusteringState:
    """What one model carries.

    Args:
        weights: The clustered weights.
        too_small: The weights that were left alone because they have no more numbers
            than they would get centroids.
    """

    weights: list[ClusteredWeight] = field(default_factory=list)
    too_small: list[keras.Variable] = field(default_factory=list)


class ClusteredModel(Carrier):
    """Mixed into the class of a model when it is clustered."""

    kept_as = "kopt_clustering"

    @classmethod
    def carried_config(cls, model: keras.Model, carried: ClusteringState) -> Any:
        places = {id(variable): i for i, variable in enumerate(own_arrays(model))}
        return {
            "weights": [
                {
                    "place": places[id(weight.variable)],
                    **asdict(weight.settings),
                    "initialization": weight.settings.initialization.name,
                }
                for weight in carried.weights
            ],
            "too_small": [places[id(variable)] for variable in carried.too_small],
        }

    @classmethod
    def carry_again(cls, model: keras.Model, config: Any) -> None:
        if not model.built:
            raise ValueError(
                f"The clustered model {model.name!r} cannot be built from its file. "
                "Give its class `get_build_config` and `build_from_config`."
            )
        variables, owners = own_arrays(model), layers_of_weights(model)
        weights = []
        for saved in config["weights"]:
            settings = dict(saved)
            variable = variables[settings.pop("place")]
            name = settings.pop("initialization")
            settings["initialization"] = CentroidInitialization[name]
            owner = owners[id(variable)]
            weights.append(ClusteredWeight(variable, owner, Settings(**settings)))
        # Their values come with the weights.
        carry(model, weights, [variables[place] for place in config["too_small"]])


def carry(
    model: keras.Model,
    weights: Iterable[ClusteredWeight],
    too_small: Iterable[keras.Variable],
) -> None:
    """Cluster weights of a model, with all centroids at zero for now."""
    state = carried(model)
    if state is None:
        state = ClusteringState()
        put_on(model, ClusteredModel, state)
    for weight in weights:
        weight.attach()
        state.weights.append(weight)
    state.too_small += too_small
    hook(model, weights)


def carried(model: keras.Layer) -> ClusteringState | None:
    """What a model carries, or `None`."""
    return getattr(model, ClusteredModel.kept_as, None)


def carried_inside(model: keras.Model) -> list[tuple[keras.Model, ClusteringState]]:
    """The clustered models among a model and those inside, with what they carry."""
    found = [(one, carried(one)) for one in with_nested_layers(model)]
    return [(one, state) for one, state in found if state is not None]


def drop(model: keras.Model, state: ClusteringState) -> None:
    """Take clustering off a model, and leave its variables as they are."""
    unhook(model, state.weights)
    for weight in state.weights:
        weight.detach()
    take_off(model, ClusteredModel)


# A fresh process has not clustered anything yet when it loads a file.
registered(ClusteredModel, ClusteredModel.__name__)
