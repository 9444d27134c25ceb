"""Layers as trees of variables, and the way from one such tree to its twin's."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kopt._keras.two_versions import inner_layers, own_variables

# Only counts what `adapt` has seen; a layer without it computes the same.
_DISPENSABLE = {"count"}


@dataclass
class Tree:
    """A layer's own variables and the layers inside it that have some."""

    layer: Any
    path: str
    variables: dict[str, Any] = field(default_factory=dict)
    inner: dict[str, Tree] = field(default_factory=dict)


def tree_of(layer: Any, path: str = "") -> Tree:
    """The tree of a layer or model of either Keras."""
    tree = Tree(layer, path)
    for variable in own_variables(layer):
        tree.variables[_free(tree.variables, _last_name(variable))] = variable
    for inner in inner_layers(layer):
        name = _free(tree.inner, plain_name(inner.name))
        found = tree_of(inner, f"{path}/{inner.name}".lstrip("/"))
        if found.variables or found.inner:
            tree.inner[name] = found
    return tree


def pairs(source: Tree, target: Tree) -> list[tuple[Any, Any]]:
    """Each variable of `target` after the one of `source` that it stands for.

    Raises:
        ValueError: If the trees do not match; all differences are listed.
    """
    found: list[tuple[Any, Any]] = []
    problems: list[str] = []
    _match(source, target, found, problems)
    if problems:
        listed = "\n".join(f"- {problem}" for problem in problems)
        raise ValueError(
            "`source` and `target` must have the same layers with weights of the same "
            f"shapes. These do not match:\n{listed}"
        )
    return found


def _match(
    source: Tree, target: Tree, found: list[tuple[Any, Any]], problems: list[str]
) -> None:
    for one, other in _partners(source.inner, target.inner, source.path, problems):
        _match(one, other, found, problems)
    variables = _without_dispensable(source.variables, target.variables)
    for one, other in _partners(*variables, source.path, problems):
        if tuple(one.shape) != tuple(other.shape):
            problems.append(
                f"{source.path}: {_last_name(one)} has the shape {tuple(one.shape)}, "
                f"its twin {tuple(other.shape)}"
            )
        else:
            found.append((one, other))


def _partners(
    source: dict[str, Any], target: dict[str, Any], path: str, problems: list[str]
) -> list[tuple[Any, Any]]:
    """By name where the names are the same, else by order."""
    if set(source) == set(target):
        return [(source[name], target[name]) for name in source]
    if len(source) != len(target):
        problems.append(
            f"{path or 'the model'}: {', '.join(source) or 'nothing'} in the source, "
            f"{', '.join(target) or 'nothing'} in the target"
        )
        return []
    return list(zip(source.values(), target.values(), strict=True))


def _without_dispensable(
    source: dict[str, Any], target: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    lone = (set(source) ^ set(target)) & _DISPENSABLE
    return (
        {name: variable for name, variable in source.items() if name not in lone},
        {name: variable for name, variable in target.items() if name not in lone},
    )


def copy(source: Any, target: Any) -> None:
    """Give `target` the weights of `source`; nothing changes if they do not match."""
    trees = tree_of(source), tree_of(target)
    for one, other in pairs(*trees):
        other.assign(_values(one))
    _finalize(trees[1])


def _finalize(tree: Tree) -> None:
    # Normalization computes with constants that it makes from its weights.
    if hasattr(tree.layer, "finalize_state"):
        tree.layer.finalize_state()
    for inner in tree.inner.values():
        _finalize(inner)


def _values(variable: Any) -> np.ndarray:
    values: np.ndarray = variable.numpy()
    return values


def plain_name(name: str) -> str:
    """A name that both Keras take: TensorFlow makes scopes of it, Keras 3 paths."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    return plain if re.match(r"[A-Za-z0-9.]", plain) else f"layer{plain}"


def _last_name(variable: Any) -> str:
    return str(variable.name).rpartition("/")[2].partition(":")[0]


def _free(taken: dict[str, Any], name: str) -> str:
    unique, number = name, 1
    while unique in taken:
        unique, number = f"{name}_{number}", number + 1
    return unique
