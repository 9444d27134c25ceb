"""Draws stories: what happens to a model from its first step to its last."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.generated.events import (
    Assign,
    BatchSize,
    Clone,
    Evaluate,
    Fit,
    Freeze,
    NotANumber,
    Penalize,
    Predict,
    Prune,
    Recompile,
    SaveAndLoad,
    SetWeights,
    Step,
    TrainOnBatch,
    Unfreeze,
)
from tests.generated.models import Model
from tests.generated.optimizers import Optimizer

#: Every event.
ALL = (
    Fit,
    TrainOnBatch,
    Step,
    Evaluate,
    Predict,
    SetWeights,
    Assign,
    Freeze,
    Unfreeze,
    Recompile,
    SaveAndLoad,
    Clone,
    BatchSize,
    NotANumber,
    Penalize,
    Prune,
)


def steps() -> st.SearchStrategy[Step]:
    places = st.lists(st.integers(0, 7), max_size=3, unique=True)
    return st.builds(Step, places.map(tuple))


def fits(optimizer: Optimizer) -> st.SearchStrategy[Fit]:
    # EvalWeights refuses an optimizer that has just one set of weights.
    swaps = st.booleans() if optimizer.averages else st.just(False)
    return st.builds(Fit, st.integers(1, 3), st.booleans(), swaps)


@st.composite
def stories(
    draw: Any,
    model: Model,
    optimizer: Optimizer,
    kinds: tuple[type, ...],
    most: int = 4,
) -> tuple[Any, ...]:
    """Draw a story that begins with training and ends with it.

    Args:
        model: The model that it is about.
        optimizer: The optimizer that trains it.
        kinds: Events to draw from.
        most: How many events there may be between the first and the last.
    """
    thawed = [place for place, layer in enumerate(model.trunk) if not layer.frozen]
    frozen: list[int] = []
    drawn = [draw(_training(optimizer, kinds))]
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=most)):
        if kind is Prune and Prune() in drawn:
            continue  # A model is pruned once.
        if kind not in (Freeze, Unfreeze):
            drawn.append(draw(event(kind, model, optimizer)))
        elif frozen and draw(st.booleans()):
            thawed.append(frozen.pop())
            drawn.append(Unfreeze(thawed[-1]))
        elif thawed:
            frozen.append(thawed.pop(draw(st.integers(0, len(thawed) - 1))))
            drawn.append(Freeze(frozen[-1]))
    return (*drawn, draw(_training(optimizer, kinds)))


def _training(optimizer: Optimizer, kinds: tuple[type, ...]) -> st.SearchStrategy[Any]:
    made = {Fit: fits(optimizer), TrainOnBatch: st.builds(TrainOnBatch), Step: steps()}
    return st.one_of([made[kind] for kind in made if kind in kinds])


def event(kind: type, model: Model, optimizer: Optimizer) -> st.SearchStrategy[Any]:
    if kind is Fit:
        return fits(optimizer)
    if kind is Step:
        return steps()
    if kind is TrainOnBatch:
        return st.builds(TrainOnBatch, st.integers(1, 3))
    if kind is Assign:
        return st.builds(Assign, st.integers(0, 7))
    if kind is SaveAndLoad:
        formats = [".keras", ".weights.h5"]
        # The older format holds no class of one's own, and no bfloat16.
        if model.style != "subclassed" and model.policy != "bfloat16":
            formats.append(".h5")
        return st.builds(SaveAndLoad, st.sampled_from(formats))
    if kind is BatchSize:
        return st.just(BatchSize(4 if model.stateful else 6))
    return st.builds(kind)
