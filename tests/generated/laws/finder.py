"""Two that would drive the learning rate."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from hypothesis import strategies as st

import kopt
from tests.generated.description import Description
from tests.generated.law import law


@dataclass(frozen=True, repr=False)
class Beside(Description):
    """A callback beside `LRFinder`, before it or after it."""

    other: str = "FitSchedule"
    first: bool = False

    def build(self) -> keras.callbacks.Callback:
        if self.other == "FitSchedule":
            return kopt.callbacks.FitSchedule(kopt.schedules.Cosine(1e-3, steps=1.0))
        if self.other == "Warmup":
            warmup = kopt.schedules.Warmup(1e-3, 0.5, kopt.schedules.Cosine(1e-3, 1.0))
            return kopt.callbacks.FitSchedule(warmup)
        return keras.callbacks.LearningRateScheduler(lambda epoch: 1e-3)


@law(st.builds(Beside, st.just("FitSchedule"), st.booleans()), quick=1)
def the_finder_finds_the_same_beside_another_callback(case: Beside) -> None:
    """Or it refuses, and names the other."""
    alone = _suggestion(None, case.first)
    try:
        both = _suggestion(case.build(), case.first)
    except (RuntimeError, ValueError) as error:
        assert case.other in str(error), error
    else:
        assert 0.3 < both / alone < 3, f"{both} beside {case.other}, {alone} alone"


def _suggestion(other: keras.callbacks.Callback | None, first: bool) -> float:
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(80, 4)).astype("float32")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(kopt.SGD(0.1), "mse", jit_compile=False)
    finder = kopt.callbacks.LRFinder(start=1e-4, steps=60)
    callbacks = [finder] if other is None else [finder, other]
    callbacks = callbacks[::-1] if first else callbacks
    y = x.sum(axis=1, keepdims=True)
    model.fit(x, y, batch_size=8, epochs=8, verbose=0, callbacks=callbacks)
    return finder.suggestion
