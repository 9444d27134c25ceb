"""Loss scaling leaves out a batch whose gradients are not finite."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.generated import events, stories
from tests.generated.law import law
from tests.generated.models import models
from tests.generated.optimizers import optimizers
from tests.generated.training import Situation, Training

_EVENTS = (events.Fit, events.TrainOnBatch, events.NotANumber, events.Recompile)
#: What loss scaling itself keeps, which is meant to change.
_SCALES = ("dynamic_scale", "step_counter")


@st.composite
def _situations(draw: Any) -> Situation:
    # The pass through the model moves statistics, states and seeds.
    without = ("stateful", "Dropout", "BatchNormalization")
    model = draw(models(policies=("mixed_float16",), without=without))
    optimizer = draw(optimizers())
    story = draw(stories.stories(model, optimizer, _EVENTS))
    # EvalWeights brings a model back to its training weights before any next batch.
    story = tuple(
        event.but(eval_weights=False) if isinstance(event, events.Fit) else event
        for event in story
    )
    return Situation(model, optimizer, (*story[:-1], events.NotANumber(), story[-1]))


@law(_situations(), quick=2)
def a_batch_that_is_not_finite_changes_nothing(situation: Situation) -> None:
    training = Training(situation)
    for event in situation.story:
        before = training.everything()
        training.follow(event)
        if isinstance(event, events.NotANumber):
            for name, value in training.everything().items():
                if not any(scale in name for scale in _SCALES):
                    np.testing.assert_array_equal(
                        value, before[name], f"{name} changed by a batch with a NaN"
                    )
