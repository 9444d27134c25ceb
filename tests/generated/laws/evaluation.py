"""What is kept of a training scores what the history said of it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from hypothesis import strategies as st

import kopt
from tests.generated.description import Description
from tests.generated.law import law
from tests.generated.models import models
from tests.generated.optimizers import FLAGS, METHODS, optimizers
from tests.generated.training import SITUATION, Situation, Training, quiet

_FLAGS = tuple(name for name in FLAGS if not name.startswith("ema"))


@dataclass(frozen=True, repr=False)
class Kept(Description):
    """A fit whose best epoch is kept.

    Args:
        by: `checkpoint` for a file, `stopping` for the model that `fit` leaves.
        situation: The model and the optimizer.
        epochs: How many epochs.
        batches: How many batches an epoch.
    """

    by: str = "checkpoint"
    situation: Situation = SITUATION
    epochs: int = 3
    batches: int = 2


@st.composite
def _kept(draw: Any) -> Kept:
    model = draw(models(without=("stateful",), most=2))
    optimizer = draw(optimizers(METHODS, _FLAGS, (None,)))
    if draw(st.booleans()):
        optimizer = optimizer.but(options={**optimizer.options, **FLAGS["ema"]})
    else:
        optimizer = optimizer.but(
            wrapper=draw(st.sampled_from(("WeightAverage", "Lookahead")))
        )
    by = draw(st.sampled_from(("checkpoint", "stopping")))
    situation = Situation(model, optimizer)
    return Kept(by, situation, draw(st.integers(2, 4)), draw(st.integers(1, 3)))


@law(_kept(), quick=2)
def what_is_kept_scores_what_the_history_says(case: Kept) -> None:
    training = Training(case.situation)
    x, y = training.data(case.batches)
    validation = case.situation.model.rows(60, training.batch)
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "best.keras"
        keeper: keras.callbacks.Callback
        if case.by == "checkpoint":
            keeper = keras.callbacks.ModelCheckpoint(path, save_best_only=True)
        else:
            keeper = keras.callbacks.EarlyStopping(
                patience=9, restore_best_weights=True
            )
        history = training.model.fit(
            x,
            y,
            epochs=case.epochs,
            batch_size=training.batch,
            shuffle=False,
            verbose=0,
            validation_data=validation,
            callbacks=[kopt.callbacks.EvalWeights(), keeper],
        ).history
        model = training.model
        if case.by == "checkpoint":
            model = keras.saving.load_model(path)
        kept = model.evaluate(*validation, verbose=0, return_dict=True)["loss"]
    best = min(history["val_loss"])
    assert abs(kept - best) < 1e-5 * max(1, best), (
        f"the history says that {best} was best, and what was kept scores {kept}"
    )
