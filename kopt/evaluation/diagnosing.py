"""The verb that says what is wrong with a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from kopt._findings import Diagnosis, Finding
from kopt._registry import register
from kopt.callbacks import OverfitMonitor


@register("evaluation", serializable=False)
@dataclass(frozen=True)
class DiagnosisReport:
    """What was found in a run. `print(report)` says it in words.

    Args:
        diagnoses: What each source says: `source`, `about` and `findings`.
    """

    diagnoses: tuple[Diagnosis, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All that is wrong: `kind`, `text`, `since`, `layers` and `advice` of each."""
        return tuple(one for diagnosis in self.diagnoses for one in diagnosis.findings)

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.diagnoses))


@register("evaluation")
def diagnose(
    history: Any = None,
    monitors: Any = (),
    *,
    metric: str = "loss",
    mode: str = "auto",
) -> DiagnosisReport:
    """Say what is wrong with a run, since when, and what helps.

    A history shows overfitting and underfitting, by the rules of
    `kopt.callbacks.OverfitMonitor`; a `kopt.callbacks.GradientMonitor` that was in
    `fit` names layers with vanishing or exploding gradients and dead units.

    Args:
        history: What `fit` returned, or its dict of lists, with validation. Optional
            beside `monitors`. A monitor is taken here as well.
        monitors: Monitors of kopt that were callbacks of `fit`, or one of them.
        metric: The loss or metric of the history to judge by. Defaults to `"loss"`.
        mode: `"min"` if a lower one is better, `"max"` if a higher one, `"auto"` as
            the metric's name says. Defaults to `"auto"`.

    Raises:
        TypeError: If a source is neither a history nor a monitor.
        ValueError: If there is no source, a monitor has measured nothing, or the
            history has no such metric, or none of validation for each epoch.

    Example:

    >>> losses = {"loss": [1.0, 0.5, 0.3, 0.2, 0.1, 0.05],
    ...           "val_loss": [1.0, 0.6, 0.7, 0.9, 1.1, 1.3]}
    >>> [finding.kind for finding in kopt.evaluation.diagnose(losses).findings]
    ['overfitting']
    """
    sources = [*monitors] if isinstance(monitors, Sequence) else [monitors]
    if _is_monitor(history):
        history, sources = None, [history, *sources]
    if history is not None:
        sources.insert(0, _of_history(history, metric, mode))
    for source in sources:
        if not _is_monitor(source):
            raise TypeError(
                "`monitors` must be monitors of kopt.callbacks, which have a "
                f"`diagnosis`. Received: {source!r}. Pass GradientMonitor or "
                "OverfitMonitor to `fit` as a callback, and then here."
            )
    if not sources:
        raise ValueError(
            "There is nothing to diagnose. Pass what `fit` returned, or `monitors` "
            "that were its callbacks."
        )
    return DiagnosisReport(tuple(source.diagnosis for source in sources))


def _is_monitor(source: Any) -> bool:
    # By its class: the verdict itself raises where nothing was measured yet.
    return hasattr(type(source), "diagnosis")


def _of_history(history: Any, metric: str, mode: str) -> OverfitMonitor:
    """A monitor that has seen the epochs of a history."""
    logs = history.history if isinstance(history, keras.callbacks.History) else history
    if not isinstance(logs, Mapping):
        raise TypeError(
            "`history` must be what `fit` returned, its dict of lists, or a monitor. "
            f"Received: {history!r}."
        )
    monitor = OverfitMonitor(metric, mode)
    for name in (metric, f"val_{metric}"):
        if not len(logs.get(name, ())):
            raise ValueError(
                f"The history has no {name!r}. There are: "
                f"{', '.join(map(repr, logs)) or 'none'}. Fit with `validation_data`, "
                "and pass the loss or metric of training as `metric`."
            )
    training, validation = logs[metric], logs[f"val_{metric}"]
    if len(validation) != len(training):
        raise ValueError(
            f"The history has {len(training)} values of {metric!r} and "
            f"{len(validation)} of validation (`validation_freq`), and does not say "
            "which belong together. Pass a kopt.callbacks.OverfitMonitor to `fit`, and "
            "then here."
        )
    monitor.set_state(
        {
            "epochs": [*range(len(training))],
            "training": [float(value) for value in training],
            "validation": [float(value) for value in validation],
        }
    )
    return monitor
