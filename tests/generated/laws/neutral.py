"""An option at the value at which it does nothing, does nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.generated import events, stories
from tests.generated.description import Description
from tests.generated.law import assert_same, law, run
from tests.generated.models import MENUS, models
from tests.generated.optimizers import (
    FLAGS,
    METHODS,
    Group,
    Optimizer,
    optimizers,
    with_momentum,
)
from tests.generated.training import SITUATION, Situation

_HUGE = 1e12
#: Options of every optimizer.
OPTIONS: dict[str, dict[str, Any]] = {
    "agc": {"agc": _HUGE},
    "clipnorm": {"clipnorm": _HUGE},
    "clipvalue": {"clipvalue": _HUGE},
    "global_clipnorm": {"global_clipnorm": _HUGE},
    "loss_scale_factor": {"loss_scale_factor": 1.0},
    "weight_decay": {"weight_decay": 0.0},
    "use_ema": {"use_ema": True},
    "state_dtype": {"state_dtype": "float32"},
    "kahan": {"bf16_rounding": "kahan"},
}
#: Wrappers that leave the inner optimizer's weights as they are.
WRAPPERS: dict[str, dict[str, Any]] = {
    "WeightAverage": {},
    "Lookahead": {"sync_period": 1, "slow_step_size": 1.0},
    "MomentumSAM": {"rho": 0.0},
}
#: What is done to the model before it trains.
CHANGES = {"penalty": events.Penalize(0.0), "sparsity": events.Prune(0.0)}
NAMES = (*OPTIONS, *WRAPPERS, *CHANGES, "multiplier", "rho", "rho")
_FLAGS = ("decay", "l2", "cautious", "centralization", "lazy")
# What Keras writes into the model when `fit` ends is the average: not to be read here.
_EVENTS = (events.TrainOnBatch, events.Assign, events.Recompile, events.Evaluate)
_UNACCUMULATED = tuple(name for name in FLAGS if name != "accumulation")


@dataclass(frozen=True, repr=False)
class Neutral(Description):
    """A situation without an option, and the name of the option."""

    option: str = "agc"
    situation: Situation = SITUATION

    def with_it(self) -> Situation:
        """The situation with the option at its neutral value."""
        optimizer = self.situation.optimizer
        if self.option == "rho":
            return self.situation.but(sharpness={"rho": 0.0})
        if self.option in CHANGES:
            story = (CHANGES[self.option], *self.situation.story)
            return self.situation.but(story=story)
        if self.option == "multiplier":
            changed = optimizer.but(groups=(Group("bias", 1.0),))
        elif self.option in WRAPPERS:
            arguments = WRAPPERS[self.option]
            changed = optimizer.but(wrapper=self.option, wrapper_options=arguments)
        else:
            changed = with_options(optimizer, **OPTIONS[self.option])
        return self.situation.but(optimizer=changed)


@st.composite
def _situations(draw: Any) -> Neutral:
    option = draw(st.sampled_from(NAMES))
    # Where it is 0, a second pass of the step must start from the same states.
    inputs = ("sequence", "masked") if option == "rho" else tuple(MENUS)
    model = draw(models(inputs))
    methods = with_momentum() if option == "MomentumSAM" else METHODS
    optimizer = draw(optimizers(methods, _FLAGS, wrappers=(None,), groups=False))
    story = draw(stories.stories(model, optimizer, _EVENTS))
    # A gradient of zeros decays, and none does not: a head without a loss gets one.
    has_none = option == "penalty" and not all(head.loss for head in model.heads)
    if option == "weight_decay" or has_none:
        optimizer = with_options(optimizer, weight_decay=None)
    if option == "penalty":
        # It has a gradient for the rows too that a batch leaves out.
        optimizer = with_options(optimizer, sparse="exact")
    return Neutral(option, Situation(model, optimizer, story))


@law(_situations(), quick=5)
def a_neutral_option_changes_nothing(case: Neutral) -> None:
    records = [r for r in run(case.with_it()) if r.event not in CHANGES.values()]
    assert_same(run(case.situation), records, case.situation)


@st.composite
def _accumulated(draw: Any) -> Situation:
    # Half batches have other statistics and drop other units than whole ones.
    without = ("stateful", "Dropout", "BatchNormalization")
    model = draw(models(without=without))
    optimizer = draw(optimizers(flags=_UNACCUMULATED))
    batches = draw(st.integers(1, 3))
    return Situation(model, optimizer, (events.TrainOnBatch(batches),), batch=8)


@law(_accumulated(), quick=3)
def batches_that_are_accumulated_are_one_batch(whole: Situation) -> None:
    (event,) = whole.story
    parts = whole.but(
        optimizer=with_options(whole.optimizer, gradient_accumulation_steps=2),
        story=(event.but(batches=2 * event.batches),),
        batch=whole.batch // 2,
    )
    records = run(whole), run(parts)
    for record in (*records[0], *records[1]):
        record.losses = []  # Those of the parts are other ones.
    assert_same(*records, whole)


def with_options(optimizer: Optimizer, **options: Any) -> Optimizer:
    return optimizer.but(options={**optimizer.options, **options})
