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

#: The shapes of the two variables of `Gaps`.
_SHAPES = ((3, 2), (4,))
_GAP_FLAGS = (
    "decay",
    "l2",
    "cautious decay",
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "cautious",
    "centralization",
    "agc",
    "ema",
    "ema overwriting",
)
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


@dataclass(frozen=True, repr=False)
class Gaps(Description):
    """Batches that have gradients for some of two variables.

    Args:
        optimizer: The optimizer, without accumulation.
        batches: Which of the variables have a gradient in each batch.
        every: How many gradients make an update.
        graph: Whether steps are traced.
    """

    optimizer: Optimizer = OPTIMIZER
    batches: tuple[tuple[int, ...], ...] = ((0,), (0, 1))
    every: int = 2
    graph: bool = False


@st.composite
def _gaps(draw: Any) -> Gaps:
    optimizer = draw(optimizers(flags=_GAP_FLAGS, groups=False))
    batch = st.sampled_from(((0,), (1,), (0, 1), (0, 1)))
    batches = draw(st.lists(batch, min_size=3, max_size=8))
    # Of two or of four, so that sums and means do not round.
    every = draw(st.sampled_from((2, 2, 4)))
    return Gaps(optimizer, tuple(batches), every, draw(st.integers(0, 7)) == 7)


@law(_gaps(), quick=4)
def a_variable_waits_for_its_own_gradients(case: Gaps) -> None:
    """It stays meanwhile, and moves by their mean as if there were no others.

    What comes out is what updates give that have gradients for those variables alone
    that do not wait.
    """
    generator = np.random.default_rng(0)
    options = {**case.optimizer.options, "gradient_accumulation_steps": case.every}
    parts = _Stepping(case.optimizer.but(options=options), case.graph)
    whole = _Stepping(case.optimizer, case.graph)
    gathered: list[list[np.ndarray]] = [[], []]
    for batch in case.batches:
        gradients = {k: generator.integers(-9, 9, size=_SHAPES[k]) / 8 for k in batch}
        due = {}
        for which, gradient in gradients.items():
            gathered[which].append(gradient)
            if len(gathered[which]) == case.every:
                due[which] = np.mean(gathered[which], axis=0)
                gathered[which] = []
        before = parts.values()
        parts.step(gradients)
        if due:
            whole.step(due)
        for which, (value, old) in enumerate(zip(parts.values(), before, strict=True)):
            if which not in due:
                np.testing.assert_array_equal(value, old, f"{which} moved in {batch}")
        assert_close(parts, whole)
    for stepping in (parts, whole):
        stepping.optimizer.swap_to_eval()
    assert_close(parts, whole)


def assert_close(one: _Stepping, other: _Stepping) -> None:
    for value, expected in zip(one.values(), other.values(), strict=True):
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-6)


class _Stepping:
    """Two variables, and an optimizer that moves some of them."""

    def __init__(self, optimizer: Optimizer, graph: bool) -> None:
        generator = np.random.default_rng(1)
        self.variables = [keras.Variable(generator.normal(size=s)) for s in _SHAPES]
        self.optimizer = optimizer.build()
        self.optimizer.build(self.variables)
        self.apply = tf.function(self._apply) if graph else self._apply

    def _apply(self, gradients: dict[int, Any]) -> None:
        chosen = [self.variables[which] for which in gradients]
        self.optimizer.apply(list(gradients.values()), chosen)

    def step(self, gradients: dict[int, np.ndarray]) -> None:
        self.apply({k: tf.constant(g, "float32") for k, g in gradients.items()})

    def values(self) -> list[np.ndarray]:
        return [variable.numpy() for variable in self.variables]


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
