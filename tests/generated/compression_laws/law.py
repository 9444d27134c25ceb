"""The list of laws, and what all of them take for a refusal."""

from __future__ import annotations

import re
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from hypothesis import strategies as st

import kopt
from tests.generated.compressed_models import Net, data, outputs

LAWS: dict[str, Law] = {}

#: What kopt raises where it cannot do something, with a message of its own.
REFUSALS = (
    ValueError,
    TypeError,
    kopt.export.ConversionError,
    kopt.export.VerificationError,
)


def in_own_words(error: Exception) -> None:
    """Raise again what kopt has not raised itself: no refusal, but a fault."""
    *_, last = traceback.extract_tb(error.__traceback__)
    if "kopt" not in Path(last.filename).parts or not _RAISES.search(last.line or ""):
        raise error


_RAISES = re.compile(r"^raise\b|\brefuse|^_?checks?\b|_checks\.")

VERBS: dict[str, Callable[[keras.Model, Any], Any]] = {
    "prune": lambda model, x: kopt.pruning.prune_low_magnitude(
        model, kopt.pruning.OneShot(0.5)
    ),
    "cluster": lambda model, x: kopt.clustering.cluster_weights(model, 4),
    "sharpen": lambda model, x: kopt.sharpness_aware(model),
    "quantize": lambda model, x: kopt.quantization.quantize_model(
        model, calibration_data=x
    ),
    "teach": lambda model, x: kopt.quantization.quantize_model(
        model, calibration_data=x, teacher=True
    ),
}


@dataclass(frozen=True)
class Law:
    """Something that holds for every model.

    Args:
        name: The name of the function, a sentence.
        check: Takes a situation and raises where the law is broken.
        situations: Draws tuples of arguments.
        quick: How many a plain test run tries.
    """

    name: str
    check: Callable[..., None]
    situations: st.SearchStrategy[tuple[Any, ...]]
    quick: int


def law(
    *situations: st.SearchStrategy[Any], quick: int = 3
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Enter a function in the list of laws, with what draws each argument."""

    def enter(check: Callable[..., None]) -> Callable[..., None]:
        name = check.__name__
        LAWS[name] = Law(name, check, st.tuples(*situations), quick)
        return check

    return enter


@dataclass(frozen=True)
class State:
    """What a verb may not change where it refuses, and `strip` gives back."""

    kind: str
    config: str
    weights: list[np.ndarray]
    trainable: list[bool]
    outputs: dict[str, np.ndarray]

    @classmethod
    def of(cls, model: keras.Model, net: Net) -> State:
        return cls(
            type(model).__name__,
            model.to_json(),
            [np.array(weight) for weight in model.get_weights()],
            [bool(layer.trainable) for layer in model._flatten_layers()],
            outputs(model, data(net)),
        )

    def assert_same(self, other: State) -> None:
        assert (self.kind, self.config) == (other.kind, other.config)
        assert self.trainable == other.trainable
        for mine, theirs in zip(self.weights, other.weights, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        assert_close(self.outputs, other.outputs)


def assert_close(
    found: dict[str, np.ndarray], expected: dict[str, np.ndarray], rtol: float = 1e-4
) -> None:
    """Compare outputs up to rounding, relative to the largest value of each."""
    assert list(found) == list(expected)
    for name, values in expected.items():
        largest = float(np.abs(values).max()) or 1.0
        np.testing.assert_allclose(
            found[name], values, rtol=0, atol=rtol * largest, err_msg=name
        )


@contextmanager
def folder() -> Iterator[Path]:
    """A folder of its own for each example."""
    with tempfile.TemporaryDirectory(prefix="kopt-") as name:
        yield Path(name)
