"""One optimizer, several lists of variables; variables of any kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from hypothesis import strategies as st

from tests.generated.description import Description
from tests.generated.law import law
from tests.generated.optimizers import METHODS, OPTIMIZER, Optimizer, optimizers

#: Methods without bias correction: their steps do not depend on the update's number.
_WITHOUT_NUMBER = ("SGD", "Lion", "Adagrad", "RMSprop")


@dataclass(frozen=True, repr=False)
class Turns(Description):
    """Lists of variables that one optimizer updates in turns.

    Args:
        optimizer: The optimizer, without accumulation.
        order: Which list each update is of.
        every: How many batches make an update.
    """

    optimizer: Optimizer = OPTIMIZER
    order: tuple[int, ...] = (0, 1)
    every: int = 2


@st.composite
def _turns(draw: Any) -> Turns:
    flags = ("decay", "clipnorm", "clipvalue", "cautious", "centralization", "agc")
    optimizer = draw(optimizers(_WITHOUT_NUMBER, flags, (None,), groups=False))
    order = draw(st.lists(st.integers(0, 1), min_size=1, max_size=4))
    return Turns(optimizer, tuple(order), draw(st.integers(2, 3)))


@law(_turns(), quick=6)
def lists_in_turns_accumulate_each_for_itself(case: Turns) -> None:
    """The batches of all lists come mixed; each list moves by its own means."""
    generator = np.random.default_rng(0)
    means = [generator.normal(size=(3, 2)).astype("float32") for _ in case.order]
    options = {**case.optimizer.options, "gradient_accumulation_steps": case.every}
    mixed, optimizer = _lists(), case.optimizer.but(options=options).build()
    optimizer.build([variable for (variable,) in mixed])
    rounds = [
        [
            (which, mean)
            for which, mean in zip(case.order, means, strict=True)
            if which == k
        ]
        for k in (0, 1)
    ]
    for pair in _zipped(rounds):
        for _ in range(case.every):
            for which, mean in pair:
                optimizer.apply([tf.constant(mean)], mixed[which])
    for which in (0, 1):
        (variable,), alone = _lists()[which], case.optimizer.build()
        for _, mean in rounds[which]:
            alone.apply([tf.constant(mean)], [variable])
        np.testing.assert_allclose(
            mixed[which][0].numpy(),
            variable.numpy(),
            rtol=0,
            atol=1e-5,
            err_msg=f"list {which} did not move by the means of its own batches",
        )


def _zipped(rounds: list[list[Any]]) -> list[list[Any]]:
    longest = max(len(updates) for updates in rounds)
    return [[r[i] for r in rounds if i < len(r)] for i in range(longest)]


def _lists() -> list[list[keras.Variable]]:
    keras.utils.clear_session(free_memory=False)
    generator = np.random.default_rng(1)
    return [[keras.Variable(generator.normal(size=(3, 2)), name=n)] for n in "ab"]


@dataclass(frozen=True, repr=False)
class OneStep(Description):
    """A step on a variable of some dtype."""

    method: str = "SGD"
    dtype: str = "complex64"


@law(
    st.builds(
        OneStep,
        st.sampled_from(METHODS),
        st.sampled_from(("complex64", "complex128", "float16", "float64", "bfloat16")),
    ),
    quick=8,
)
def a_variable_is_trained_as_it_is_or_refused(case: OneStep) -> None:
    """A step down a real gradient leaves the imaginary part where it is."""
    number = 1 + 1j if case.dtype.startswith("complex") else 1
    variable = keras.Variable(np.full((2, 2), number), dtype=case.dtype)
    optimizer = Optimizer(case.method).build()
    try:
        optimizer.build([variable])
        optimizer.apply([tf.ones((2, 2), case.dtype)], [variable])
    except (TypeError, ValueError) as error:
        assert case.dtype in str(error), f"a refusal that does not name {case.dtype}"
        return
    value = variable.numpy().astype("complex128")
    np.testing.assert_allclose(value.imag, np.imag(number), rtol=1e-6)
    assert np.all(value.real <= 1), f"the step went up: {value}"
