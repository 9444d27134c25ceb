"""What a pruned model carries: its masks and steps, saved and loaded with it."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kopt._keras.attached_state import own_arrays
from kopt._keras.saveable import KerasSaveable
from kopt.pruning._group import MaskConstraint, MaskGroup
from kopt.pruning._layout import Layout, kernel_layout
from kopt.pruning._pattern import Pattern
from kopt.pruning._units import UnitLayout, UnitPattern
from kopt.pruning._weights import layers_of_weights


class PruningState(KerasSaveable, tf.Module):
    """The mask groups of one model.

    Keras saves and loads it as a part of the model, under a name of its own, so that
    the model's own weights are stored as if it were not pruned. As a `tf.Module` it
    is in TensorFlow's checkpoints as well.
    """

    def __init__(self) -> None:
        super().__init__(name="pruning")
        self.groups: list[MaskGroup] = []
        # The kinds of warnings that were given.
        self.said: set[str] = set()

    @property
    def members(self) -> list[MaskConstraint]:
        return [member for group in self.groups for member in group.members]

    def get_config(self, model: keras.Model) -> list[dict[str, Any]]:
        """What it takes to prune a model of the same architecture in the same way."""
        places = {id(variable): i for i, variable in enumerate(own_arrays(model))}
        return [
            {
                "weights": [places[id(member.variable)] for member in group.members],
                "schedule": keras.saving.serialize_keras_object(group.schedule),
                "pattern": group.pattern.get_config(),
                "criterion": keras.saving.serialize_keras_object(group.criterion),
                "shared": group.shared,
                "step": int(group.step.numpy()),
                "has_zeros": any(not m.mask.numpy().all() for m in group.members),
                **_units_config(group),
            }
            for group in self.groups
        ]

    def settle(self) -> None:
        """See that the masks are those of the weights, also in a copy."""
        for group in self.groups:
            group.settle()

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        self.settle()
        store["steps"] = np.array([int(group.step.numpy()) for group in self.groups])
        for index, member in enumerate(self.members):
            # One bit a weight.
            store[f"mask_{index}"] = np.packbits(member.mask.numpy())
            for name, variable in member.memory.items():
                store[f"memory_{index}_{name}"] = variable.numpy()
        for index, group in enumerate(self.groups):
            for name, array in group.criterion.arrays().items():
                store[f"criterion_{index}_{name}"] = array

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        if "steps" not in store:
            raise ValueError(
                "The file has weights but no pruning masks. Load it into the model "
                "before `kopt.pruning.prune_low_magnitude`, or after "
                "`kopt.pruning.strip_pruning`."
            )
        steps = store["steps"]
        packed = [store[key] for key in self._mask_keys(store)]
        sizes = [(member.mask.numpy().size + 7) // 8 for member in self.members]
        if len(steps) != len(self.groups) or [p.size for p in packed] != sizes:
            raise ValueError(
                "The file's pruning masks are of other weights than those that are "
                f"pruned here: it has {len(packed)} masks in {len(steps)} groups, the "
                f"model {len(sizes)} in {len(self.groups)}. Prune the model with the "
                "same arguments as the saved one."
            )
        for group, step in zip(self.groups, steps, strict=True):
            group.step.assign(step)
            group.keep_masks()
        for member, bits in zip(self.members, packed, strict=True):
            shape = member.mask.shape
            mask = np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape)
            member.mask.assign(mask.astype("bool"))
        for index, member in enumerate(self.members):
            for name, variable in member.memory.items():
                variable.assign(store[f"memory_{index}_{name}"])
        for index, group in enumerate(self.groups):
            prefix = f"criterion_{index}_"
            names = [key for key in store.keys() if key.startswith(prefix)]
            group.criterion.take_arrays(
                {name.removeprefix(prefix): store[name] for name in names}
            )

    def _mask_keys(self, store: Mapping[str, Any]) -> list[str]:
        # A store of Keras has `keys` but is no iterable.
        count = sum(key.startswith("mask_") for key in store.keys())
        return [f"mask_{index}" for index in range(count)]

    def _obj_type(self) -> str:
        # Keras skips the attributes that all objects of a known kind have.
        return "Loss"


def groups_from_config(
    model: keras.Model, configs: list[dict[str, Any]]
) -> list[MaskGroup]:
    """Put the groups of a saved model on one that was just rebuilt."""
    weights, owners = own_arrays(model), layers_of_weights(model)
    groups = []
    for config in configs:
        variables = [weights[place] for place in config["weights"]]
        pattern: Pattern | UnitPattern
        layouts: Sequence[Layout | UnitLayout]
        if "units" in config:
            pattern = UnitPattern.from_config(config["pattern"])
            layouts = [UnitLayout.from_config(layout) for layout in config["units"]]
        else:
            pattern = Pattern(**config["pattern"])
            layouts = [kernel_layout(owners[id(v)], v.shape, v.name) for v in variables]
        pairs = zip(variables, layouts, strict=True)
        members = [MaskConstraint(*pair) for pair in pairs]
        schedule = keras.saving.deserialize_keras_object(config["schedule"])
        criterion = keras.saving.deserialize_keras_object(config["criterion"])
        criterion.bind(model)
        shared = config["shared"]
        group = MaskGroup(members, schedule, pattern, criterion, shared)
        if config.get("has_zeros", False):
            group.copied(config["step"])
        else:
            group.step.assign(config.get("step", 1))
            group.start()
        groups.append(group)
    return groups


def _units_config(group: MaskGroup) -> dict[str, Any]:
    """Where whole units lie in the weights, if such are pruned."""
    if not isinstance(group.pattern, UnitPattern):
        return {}
    return {"units": [member.layout.get_config() for member in group.members]}
