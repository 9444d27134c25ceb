"""Every variable of an optimizer belongs to something."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.generated import events, stories
from tests.generated.law import law
from tests.generated.models import models
from tests.generated.optimizers import optimizers
from tests.generated.training import Situation, Training

_POLICIES = ("float32", "bfloat16", "mixed_bfloat16")


@st.composite
def _situations(draw: Any) -> Situation:
    model, optimizer = draw(models(policies=_POLICIES)), draw(optimizers())
    story = draw(stories.stories(model, optimizer, (events.TrainOnBatch,), most=0))
    return Situation(model, optimizer, story[:1])


@law(_situations(), quick=10)
def every_variable_of_an_optimizer_belongs_to_something(situation: Situation) -> None:
    training = Training(situation)
    training.run()
    optimizer, trained = training.optimizer, training.model.trainable_variables
    variables = optimizer.variables
    ids = [id(variable) for variable in variables]
    assert len(ids) == len(set(ids)), "a variable is listed twice"
    assert not set(ids) & {id(weight) for weight in training.model.weights}
    paths = [variable.path for variable in variables]
    twice = {path for path in paths if paths.count(path) > 1}
    assert not twice, f"several variables have the path {sorted(twice)}"
    multipliers = [path for path in paths if "multiplier" in path]
    groups = len(situation.optimizer.groups)
    assert len(multipliers) == groups, (
        f"{len(multipliers)} multipliers, {groups} groups"
    )
    shapes = {tuple(weight.shape) for weight in trained}
    strange = [
        path
        for path, variable in zip(paths, variables, strict=True)
        if len(variable.shape) > 1
        and not any(of_weight(path, weight.path) for weight in trained)
    ]
    assert not strange, f"{strange} belong to no weight of {shapes}"


def of_weight(path: str, weight: str) -> bool:
    """Whether an optimizer's variable is named after a weight of the model."""
    return weight.replace("/", "_") in path
