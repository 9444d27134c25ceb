"""The same training run in another way is the same training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.generated import events, stories
from tests.generated.description import Description
from tests.generated.law import assert_same, law, run
from tests.generated.models import models
from tests.generated.optimizers import optimizers
from tests.generated.training import SITUATION, Situation, two_replicas

_EVENTS = (
    events.Fit,
    events.TrainOnBatch,
    events.Evaluate,
    events.Predict,
    events.Freeze,
    events.Unfreeze,
    events.Recompile,
    events.SetWeights,
    events.Assign,
    events.Penalize,
    events.Prune,
    events.Clone,
    events.BatchSize,
)
_ON_REPLICAS = (
    "decay",
    "clipnorm",
    "global_clipnorm",
    "ema",
    "accumulation",
    "cautious",
    "centralization",
    "agc",
    "lazy",
)
_POLICIES = ("float32", "float32", "float64", "mixed_bfloat16", "mixed_float16")


@dataclass(frozen=True, repr=False)
class OtherMode(Description):
    """A situation, and another way to run it."""

    mode: str = "graph"
    situation: Situation = SITUATION


@st.composite
def _situations(draw: Any) -> OtherMode:
    mode = draw(st.sampled_from(("graph", "jit")))
    # XLA draws other random numbers for dropout, with Keras's optimizers too.
    without = ("Dropout",) if mode == "jit" else ()
    model, optimizer = (
        draw(models(policies=_POLICIES, without=without)),
        draw(optimizers()),
    )
    story = draw(stories.stories(model, optimizer, _EVENTS, most=3))
    sharp = {"rho": 0.05} if draw(st.integers(0, 4)) == 4 else {}
    return OtherMode(mode, Situation(model, optimizer, story, sharpness=sharp))


@law(_situations(), quick=1)
def eager_graph_and_jit_agree(case: OtherMode) -> None:
    other = case.situation.but(mode=case.mode)
    assert_same(run(case.situation), run(other), case.situation)


@st.composite
def _replicated(draw: Any) -> Situation:
    # Replicas have their own statistics, drop their own units, and a state for half
    # of the batch: those are not meant to be the same as on one device.
    without = ("stateful", "Dropout", "BatchNormalization")
    model = draw(models(without=without, most=2))
    optimizer = draw(optimizers(flags=_ON_REPLICAS))
    story = draw(stories.stories(model, optimizer, (events.Fit, events.Freeze), most=2))
    sharp = {"rho": 0.05} if draw(st.integers(0, 4)) == 4 else {}
    return Situation(model, optimizer, story, sharpness=sharp, mode="graph")


@law(_replicated(), quick=1)
def two_replicas_train_as_one(situation: Situation) -> None:
    assert_same(run(situation), run(situation, strategy=two_replicas()), situation)
