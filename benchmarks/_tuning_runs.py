"""Searches of `benchmarks/tuning.py`, and the file that they are kept in."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from _tuning_confirmation import confirmed
from _tuning_samplers import Sampler
from _tuning_tasks import Task


@dataclass(frozen=True)
class Run:
    """One search of a task: regret of the answer after each trial.

    Attributes:
        times: Milliseconds of processor time of each proposal.
    """

    task: str
    sampler: str
    code: str
    trials: int
    seed: int
    regret: list[float]
    times: list[float]


class Runs:
    """Finished searches, in a file of JSON lines that only grows.

    A run of other code of a sampler stays there, and is not taken for one of today's.
    """

    def __init__(self, path: Path, trials: int):
        self._path, self._trials = path, trials
        self._known: dict[tuple[object, ...], Run] = {}
        written = path.read_text() if path.exists() else ""
        for line in written.splitlines():
            with contextlib.suppress(ValueError):  # cut off while it was written
                self._keep(Run(**json.loads(line)))
        if written and not written.endswith("\n"):
            path.write_text(written + "\n")

    def find(self, task: Task, name: str, sampler: Sampler, seed: int) -> Run | None:
        """The run, if it has been made."""
        return self._known.get((task.name, name, sampler.code, self._trials, seed))

    def make(self, task: Task, name: str, sampler: Sampler, seed: int) -> Run:
        """Search now, and keep it."""
        tried = sampler.search(task, seed, self._trials)
        best, regret, regrets = np.inf, np.inf, []
        for params, value, _ in tried:
            if value < best:
                best, regret = value, task.regret(params)
            regrets.append(round(regret, 5))
        if sampler.repeats and sampler.study:
            # What a user gets in the end, repeats included in the trials.
            study = sampler.study(seed)
            regret = confirmed(task, study, seed, self._trials, sampler.repeats)
            regrets[-1] = round(regret, 5)
        times = [round(one, 2) for _, _, one in tried]
        run = Run(task.name, name, sampler.code, self._trials, seed, regrets, times)
        self._keep(run)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(run)) + "\n")
        return run

    def common(
        self, tasks: Sequence[Task], name: str, sampler: Sampler
    ) -> list[list[Run]]:
        """The runs of each task, with the seeds that all of the tasks have."""
        found: list[list[Run]] = [[] for _ in tasks]
        for seed in range(sampler.seeds):
            runs = [self.find(task, name, sampler, seed) for task in tasks]
            if None in runs:
                break
            for of_task, run in zip(found, runs, strict=True):
                assert run is not None
                of_task.append(run)
        return found

    def _keep(self, run: Run) -> None:
        key = (run.task, run.sampler, run.code, run.trials, run.seed)
        self._known[key] = run
