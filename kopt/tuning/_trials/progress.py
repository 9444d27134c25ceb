"""The trials of a search as they go: a live table in a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import keras
import optuna
from optuna.trial import FrozenTrial, TrialState

from kopt._text_table import duration, number
from kopt.tuning._trials import clock as spending
from kopt.tuning._trials import records
from kopt.tuning._trials.configurations import best_first, score_of
from kopt.tuning._trials.rows import rows
from kopt.tuning.budget import Budget

_BEST, _LAST = 5, 5
_SECONDS_BETWEEN_LOOKS = 0.5


class Progress:
    """Shows the trials of a study, whoever runs them.

    Args:
        study: The study.
        objective: The name of its objective.
        budget: The budget of the search.
        shown: `True` for a table or lines, `False` for nothing, `None` for a table in
            a terminal alone; or the `rich.console.Console` to write to.
    """

    def __init__(
        self, study: optuna.Study, objective: str, budget: Budget, shown: Any = None
    ):
        self._study = study
        self._objective = objective
        self._budget = budget
        self._shown = shown
        self._live: Any = None
        self._console: Any = None
        self._told: set[int] = set()
        self._looked = 0.0

    def open(self) -> None:
        """Begin to show. Trials that have ended before are no news."""
        if self._shown is False:
            return
        from rich.console import Console
        from rich.live import Live

        console = Console() if self._shown in (None, True) else self._shown
        if console.is_terminal or console.is_jupyter:
            self._live = Live(console=console, auto_refresh=False)
            self._live.start()
            # A search that is interrupted would leave a terminal without one.
            console.show_cursor(True)
        elif self._shown is None:
            return
        self._console = console
        trials = self._study.get_trials(deepcopy=False)
        self._told = {one.number for one in trials if one.state.is_finished()}

    def close(self) -> None:
        """Show how it ended."""
        self.look(is_due=True)
        if self._live is not None:
            self._live.stop()
        self._live = self._console = None

    def look(self, is_due: bool = False) -> None:
        """Show what has changed, if the last look was long enough ago."""
        now = time.monotonic()
        is_due = is_due or now - self._looked >= _SECONDS_BETWEEN_LOOKS
        if self._console is None or not is_due:
            return
        self._looked = now
        if self._live is not None:
            self._live.update(self.table(), refresh=True)
            return
        trials = self._study.get_trials(deepcopy=False)
        told = rows(self._study)
        for trial in trials:
            if trial.state.is_finished() and trial.number not in self._told:
                self._told.add(trial.number)
                text = self._line(trials, told[trial.number])
                self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def callback(self) -> keras.callbacks.Callback:
        """A callback that looks after each epoch."""
        return _Look(self)

    def table(self) -> Any:
        """The best trials and the last ones, as something that rich draws."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        trials = self._study.get_trials(deepcopy=False)
        told = rows(self._study)
        drawn = Table()
        for name in ("trial", "state", "epochs", self._objective, "time"):
            drawn.add_column(name, justify="right")
        drawn.add_column("hyperparameters")
        for place in self._places(trials):
            row = told[place]
            drawn.add_row(
                _name(row),
                row["state"],
                str(row["epochs"]),
                _value(row, trials[place]),
                "" if row["seconds"] is None else duration(row["seconds"]),
                _values(row),
            )
        below = Table.grid(padding=(0, 2))
        share, text = self._place(trials)
        bar = ProgressBar(total=1.0, completed=share, width=40)
        below.add_row(bar, text, self._best())
        return Group(drawn, below)

    def _places(self, trials: Sequence[FrozenTrial]) -> list[int]:
        """The trials that are shown: the best, then the last that are none of them."""
        known = [t.number for t in trials if records.WITHDRAWN not in t.user_attrs]
        best = [one.first.number for one in best_first(self._study)[:_BEST]]
        running = [t.number for t in trials if t.state == TrialState.RUNNING]
        last = [one for one in known if one not in best and one not in running]
        return [*best, *sorted({*last[-_LAST:], *running})]

    def _line(self, trials: Sequence[FrozenTrial], row: dict[str, Any]) -> str:
        parts = [f"trial {_name(row)}", row["state"]]
        if row["score"] is not None:
            parts.append(f"{self._objective} {number(row['score'])}")
        elif row["reason"]:
            parts.append(str(row["reason"]).splitlines()[0])
        parts.append(f"{row['epochs']} epoch{'' if row['epochs'] == 1 else 's'}")
        if row["seconds"] is not None:
            parts.append(duration(row["seconds"]))
        parts += [_values(row), self._place(trials)[1], self._best()]
        return "  ".join(filter(None, parts))

    def _place(self, trials: Sequence[FrozenTrial]) -> tuple[float, str]:
        """How much of the budget is spent, as a share and as a text."""
        done, parts, shares = spending.counted(trials), [], [0.0]
        for spent, limit, unit in (
            (done, self._budget.trials, "trials"),
            (spending.epochs(trials), self._budget.epochs, "epochs"),
        ):
            if limit is not None:
                parts.append(f"{spent}/{limit} {unit}")
                shares.append(spent / limit)
        if self._budget.minutes is not None:
            spent_seconds = spending.spent(trials)
            left = max(60 * self._budget.minutes - spent_seconds, 0.0)
            parts.append(f"{duration(left)} left")
            shares.append(spent_seconds / (60 * self._budget.minutes))
        return min(max(shares), 1.0), ", ".join(parts)

    def _best(self) -> str:
        found = best_first(self._study)[:1]
        return f"best {number(found[0].score)}" if found else ""


class _Look(keras.callbacks.Callback):
    """Lets a search be looked at after each epoch."""

    def __init__(self, progress: Progress):
        super().__init__()
        self._progress = progress

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._progress.look()


def _name(row: dict[str, Any]) -> str:
    repeated = row["repeat_of"]
    return f"{row['number']}" + ("" if repeated is None else f" (again {repeated})")


def _value(row: dict[str, Any], trial: FrozenTrial) -> str:
    if row["score"] is not None:
        return number(score_of(trial))
    if trial.last_step is None:
        return ""
    return number(trial.intermediate_values[trial.last_step])


def _values(row: dict[str, Any]) -> str:
    named = {k[3:]: v for k, v in row.items() if k.startswith("hp:")}
    return ", ".join(
        f"{name}={number(value) if isinstance(value, float) else value}"
        for name, value in named.items()
    )
