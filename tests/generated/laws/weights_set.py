"""Weights that someone else sets under the optimizer, and state that is put back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from hypothesis import strategies as st

import kopt
from tests.generated import events, stories
from tests.generated.description import Description
from tests.generated.law import ROUNDING, law, run
from tests.generated.models import models
from tests.generated.optimizers import FLAGS, METHODS, Optimizer, optimizers
from tests.generated.training import SITUATION, Situation, Training

_FLAGS = tuple(name for name in FLAGS if not name.startswith("ema"))
_EVENTS = (events.Fit, events.TrainOnBatch, events.Recompile, events.Evaluate)
#: How far a step may go, unless plain descent goes as far from there. The weights that
#: are set lie 1 away from the first ones.
_STEP = 0.5


@st.composite
def _reset(draw: Any) -> Situation:
    model = draw(models(without=("stateful",)))
    optimizer = draw(optimizers(flags=_FLAGS))
    story = draw(stories.stories(model, optimizer, _EVENTS, most=2))
    ending = draw(st.sampled_from((events.TrainOnBatch(2), events.Fit(1))))
    return Situation(model, optimizer, (*story, events.SetWeights(), ending))


@law(_reset(), quick=3)
def training_starts_from_weights_that_were_set(situation: Situation) -> None:
    """The first loss is theirs, and the first step a step from there."""
    *_, there, end = run(situation)
    unswapped = tuple(
        event.but(eval_weights=False) if isinstance(event, events.Fit) else event
        for event in situation.story
    )
    # The first loss after weights were set is the same for every optimizer.
    control = situation.but(optimizer=Optimizer("SGD", plain=True), story=unswapped)
    *_, set_there, descended = run(control)
    expected = descended.losses[0]
    found = end.losses[0]
    assert abs(found - expected) <= ROUNDING["float32"] * max(1, abs(expected)), (
        f"the loss of the weights that were set is {expected}, and the step after "
        f"reports {found}"
    )
    # A constraint may take a kernel far from where it was set.
    held = "kernel" if "_constraint" in repr(situation.model) else "seed"
    for name, weights in there.weights.items():
        if not any(word in name for word in ("moving", "seed", held)):
            gone = _distance(end.weights[name], weights)
            plain = _distance(descended.weights[name], set_there.weights[name])
            limit = max(_STEP, 2 * plain)
            assert gone < limit, f"{name} went {gone} away from where it was set"


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.max(np.abs(one - other), initial=0.0))


@dataclass(frozen=True, repr=False)
class Look(Description):
    """A situation, and a look at the model that is to leave no trace.

    Args:
        how: `evaluate`, `predict`, or `find`, a range test of `LRFinder`.
        situation: What happened before.
        swap: Whether `EvalWeights` is passed along.
    """

    how: str = "evaluate"
    situation: Situation = SITUATION
    swap: bool = False

    def happen(self, training: Training) -> None:
        x, y = training.situation.model.rows(0, 2 * training.batch)
        options: dict[str, Any] = {"batch_size": training.batch, "verbose": 0}
        if self.swap:
            options["callbacks"] = [kopt.callbacks.EvalWeights()]
        if self.how == "evaluate":
            training.model.evaluate(x, y, **options)
        elif self.how == "predict":
            training.model.predict(x, **options)
        else:
            finder = kopt.callbacks.LRFinder(start=1e-4, end=1e-2, steps=10)
            training.model.fit(x, y, epochs=8, **{**options, "callbacks": [finder]})


@st.composite
def _looks(draw: Any) -> Look:
    how = draw(st.sampled_from(("evaluate", "predict", "find")))
    # Keras moves the states of recurrent layers whenever it runs them.
    model = draw(models(without=() if how == "find" else ("stateful",)))
    optimizer = draw(optimizers())
    story = draw(stories.stories(model, optimizer, _EVENTS, most=1))
    swap = optimizer.averages and draw(st.booleans())
    return Look(how, Situation(model, optimizer, story), swap)


@law(_looks(), quick=3)
def a_look_leaves_no_trace(look: Look) -> None:
    training = Training(look.situation)
    training.run()
    before = training.everything()
    training.follow(look)
    for name, value in training.everything().items():
        np.testing.assert_array_equal(value, before[name], f"{name} was left changed")


class Interrupted(keras.callbacks.Callback):
    """Breaks off the first validation; notes the weights before and after it."""

    def __init__(self, training: Training) -> None:
        super().__init__()
        self.training, self.last, self.next = training, None, None
        self.error: type[BaseException] = KeyboardInterrupt

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.next is None:
            self.last = self.training.weights()

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.next is None:
            raise self.error

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self.last is not None and self.next is None and self.training.again:
            self.next = self.training.weights()


@st.composite
def _interrupted(draw: Any) -> Situation:
    model = draw(models(without=("stateful",), most=2))
    optimizer = draw(optimizers(METHODS, _FLAGS, (None,)))
    if draw(st.booleans()):
        optimizer = optimizer.but(options={**optimizer.options, **FLAGS["ema"]})
    else:
        optimizer = optimizer.but(
            wrapper=draw(st.sampled_from(("WeightAverage", "Lookahead")))
        )
    fit = events.Fit(draw(st.integers(1, 3)), validate=True, eval_weights=True)
    return Situation(model, optimizer, (fit,))


@law(_interrupted(), quick=2)
def training_goes_on_after_an_interrupted_validation(situation: Situation) -> None:
    training = Training(situation)
    training.again = False
    watch = Interrupted(training)
    training.callbacks.append(watch)
    try:
        training.follow(situation.story[0])
    except KeyboardInterrupt:
        training.again = True
    training.follow(situation.story[0])
    for name, value in watch.next.items():
        np.testing.assert_array_equal(
            value, watch.last[name], f"{name} is not where training was broken off"
        )
