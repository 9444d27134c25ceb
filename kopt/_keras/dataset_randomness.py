"""What is random in a `tf.data` pipeline, and what of that comes again.

A data set does not tell its parts in public: which others it reads, which seeds its
shuffles have, which operations and variables the functions in it use.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow as tf


def unrepeatable(dataset: Any) -> list[str]:
    """What in a data set gives something else when the same script runs again.

    Each as words for a message; an empty list if all of it comes again.
    """
    found = []
    for part in _parts(dataset):
        if _is_shuffle(part) and not any(_seeds(part)):
            found.append("`shuffle` without a seed")
        if getattr(part, "_deterministic", None) == "false":
            found.append("a step with deterministic=False")
        for function in part._functions():
            graph = function.function.graph
            drawing = [one for one in graph.get_operations() if _draws(one)]
            found += [
                f"{operation.type} without a seed"
                for operation in drawing
                if _is_unseeded(operation)
            ]
            # Which element draws first is then a matter of chance.
            if "Parallel" in type(part).__name__ and (drawing or graph.variables):
                found.append("random numbers in a `map` with parallel calls")
    if dataset.options().deterministic is False:
        found.append("options with deterministic=False")
    return list(dict.fromkeys(found))


def remembers_passes(dataset: Any) -> bool:
    """Whether each new pass through a data set goes on from the one before.

    A shuffle with a seed has another order in each pass, by how many there were.
    """
    return any(map(_is_shuffle, _parts(dataset)))


def variables_inside(dataset: Any) -> list[tf.Variable]:
    """The variables that functions in a data set read and move: seeds of generators."""
    found = [
        variable
        for part in _parts(dataset)
        for function in part._functions()
        for variable in function.function.graph.variables
    ]
    return list({id(variable): variable for variable in found}.values())


def _parts(dataset: Any) -> Iterator[Any]:
    """A data set and all that it reads from."""
    waiting = [dataset]
    while waiting:
        part = waiting.pop()
        if isinstance(part, tf.data.Dataset):
            yield part
            waiting += part._inputs()


def _is_shuffle(part: Any) -> bool:
    return type(part).__name__ == "_ShuffleDataset"


def _seeds(part: Any) -> tuple[int, int]:
    return int(part._seed), int(part._seed2)


def _draws(operation: tf.Operation) -> bool:
    """Whether an operation draws from a state of its own."""
    attributes = operation.node_def.attr
    return "seed" in attributes and "seed2" in attributes


def _is_unseeded(operation: tf.Operation) -> bool:
    attributes = operation.node_def.attr
    return not (attributes["seed"].i or attributes["seed2"].i)
