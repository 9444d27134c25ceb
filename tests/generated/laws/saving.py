"""Training continues from a file as if it had never stopped."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.generated import events, stories
from tests.generated.law import assert_same, law, run
from tests.generated.models import models
from tests.generated.optimizers import optimizers
from tests.generated.training import Situation

_EVENTS = (
    events.Fit,
    events.TrainOnBatch,
    events.Step,
    events.Evaluate,
    events.Freeze,
    events.Recompile,
    events.Assign,
    events.Penalize,
    events.Prune,
    events.SaveAndLoad,
)
_POLICIES = ("float32", "float32", "mixed_bfloat16", "bfloat16")


@st.composite
def _situations(draw: Any) -> Situation:
    # Keras saves neither the states of recurrent layers nor the seeds of dropout.
    without = ("stateful", "Dropout")
    model = draw(models(policies=_POLICIES, without=without))
    # Nor that the parts of attention are frozen, when it is.
    trunk = [
        layer.but(frozen=layer.frozen and layer.kind != "MultiHeadAttention")
        for layer in model.trunk
    ]
    model = model.but(trunk=tuple(trunk))
    optimizer = draw(optimizers())
    story = draw(stories.stories(model, optimizer, _EVENTS))
    saving = draw(stories.event(events.SaveAndLoad, model, optimizer))
    later = story[1:]
    if saving.suffix == ".h5":
        # Such a file does not say what the optimizer wrote last.
        writes = (events.Assign, events.Prune)
        later = tuple(event for event in later if not isinstance(event, writes))
    if any(getattr(event, "eval_weights", False) for event in story):
        # A loaded model has only that callback to be brought back before its first
        # gradient is taken.
        alone = (events.TrainOnBatch, events.Step)
        later = tuple(event for event in later if not isinstance(event, alone))
        later = tuple(
            event.but(eval_weights=True) if isinstance(event, events.Fit) else event
            for event in later
        )
    return Situation(model, optimizer, (story[0], saving, *later))


@law(_situations(), quick=4)
def a_file_changes_nothing_that_follows(situation: Situation) -> None:
    try:
        saved = run(situation)
    except ValueError as error:
        if "Unknown layer" in str(error) and ".h5" in repr(situation):
            # Keras writes operations into such a file, and reads none from it.
            return
        # No file says that the optimizer was built before a layer was frozen.
        refused = ("does not fit the optimizer", "They were read from an `.h5` file")
        assert any(words in str(error) for words in refused), error
        assert any(isinstance(event, events.Freeze) for event in situation.story)
        return
    straight = [e for e in situation.story if not isinstance(e, events.SaveAndLoad)]
    kept = [r for r in saved if not isinstance(r.event, events.SaveAndLoad)]
    never_stopped = run(situation.but(story=tuple(straight)))
    assert_same(never_stopped, kept, situation, exact=True)
