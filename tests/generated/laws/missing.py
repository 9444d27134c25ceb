"""What has no gradient."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from hypothesis import strategies as st

from tests.generated import events, stories
from tests.generated.law import law
from tests.generated.models import models
from tests.generated.optimizers import FLAGS, METHODS, optimizers
from tests.generated.training import Situation, Training

_EVENTS = (
    events.Fit,
    events.TrainOnBatch,
    events.Step,
    events.Freeze,
    events.Unfreeze,
    events.Recompile,
    events.Evaluate,
    events.Predict,
)


@st.composite
def _situations(draw: Any) -> Situation:
    model, optimizer = draw(models()), draw(optimizers(groups=False))
    story = draw(stories.stories(model, optimizer, _EVENTS, most=6))
    sharp = {"rho": 0.05} if draw(st.integers(0, 4)) == 4 else {}
    return Situation(model, optimizer, story, sharpness=sharp)


@law(_situations(), quick=6)
def what_has_no_gradient_stays(situation: Situation) -> None:
    """Frozen weights, heads without a loss, and what never had a gradient, stay."""
    training = Training(situation)
    moved: set[str] = set()
    for event in situation.story:
        before, still = training.weights(), training.still()
        after = training.follow(event).weights
        if isinstance(event, events.Step):
            moved |= set(before) - training.left_out
            still |= set(before) - moved
        elif isinstance(event, events.Fit | events.TrainOnBatch):
            moved = set(before)
        for name in still & training.still() | still - moved:
            np.testing.assert_array_equal(
                after[name], before[name], f"{name} moved in {event}"
            )


class Watch(keras.callbacks.Callback):
    """Notes the weights after every batch."""

    def __init__(self, training: Training) -> None:
        super().__init__()
        self.training, self.values = training, [training.weights()]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.values.append(self.training.weights())


@st.composite
def _averaged(draw: Any) -> Situation:
    model = draw(models(without=("BatchNormalization", "Dropout")))
    flags = tuple(name for name in FLAGS if not name.startswith("ema"))
    if draw(st.booleans()):
        optimizer = draw(optimizers(METHODS, flags, wrappers=(None,), groups=False))
        optimizer = optimizer.but(options={**optimizer.options, **FLAGS["ema"]})
    else:
        optimizer = draw(optimizers(METHODS, flags, groups=False))
        optimizer = optimizer.but(wrapper="WeightAverage")
    steps = draw(st.lists(stories.steps(), max_size=4))
    return Situation(model, optimizer, (*steps, events.Fit(draw(st.integers(1, 3)))))


@law(_averaged(), quick=4)
def an_average_lies_between_what_it_averages(situation: Situation) -> None:
    """With gradients missing at first, too: it begins with its variable's value."""
    training = Training(situation)
    watch = Watch(training)
    training.callbacks.append(watch)
    for event in situation.story:
        after = training.follow(event).weights
        if isinstance(event, events.Step):
            watch.values.append(after)
    for name, average in after.items():
        values = np.stack([weights[name] for weights in watch.values])
        if situation.optimizer.options.get("bf16_rounding") is None:
            slack = 1e-5 * np.maximum(1, np.abs(values).max())
            low, high = values.min(axis=0) - slack, values.max(axis=0) + slack
            assert np.all((low <= average) & (average <= high)), (
                f"the average of {name} lies outside of all its values: {average} "
                f"is not between {low} and {high}"
            )
