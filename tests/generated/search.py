"""Looks for situations in which a law is broken, as long as it may.

    python -m tests.generated.search --minutes 60
    python -m tests.generated.search "what_has_no_gradient_stays(Situation(...))"

The first draws situations for all laws in turns; each failure is made smaller and
printed as a line that can be pasted into the second, or into `found.py`.
"""

from __future__ import annotations

import argparse
import collections
import gc
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import keras
import tensorflow as tf
from hypothesis import HealthCheck, Phase

from tests.generated.all_laws import LAWS
from tests.generated.description import features, kinds
from tests.generated.law import Law


@dataclass
class Findings:
    """What a search has tried and found.

    Args:
        tried: How many situations each law was tried in.
        drawn: How often each feature was drawn.
        broken: The smallest situation of each failure, as a line to paste, with what
            the law said.
    """

    tried: collections.Counter[str] = field(default_factory=collections.Counter)
    drawn: collections.Counter[str] = field(default_factory=collections.Counter)
    broken: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{count:6}  {name}" for name, count in sorted(self.tried.items())]
        lines += ["", f"{sum(self.tried.values()):6}  situations, with", ""]
        lines += [f"{count:6}  {name}" for name, count in sorted(self.drawn.items())]
        for line, message in self.broken.items():
            lines += ["", line, f"    {message}"]
        return "\n".join(lines)


def search(
    minutes: float,
    laws: Iterable[str] = tuple(LAWS),
    seed: int = 0,
    patience: float = 60,
    most: int = 3,
    examples: int = 20,
    report: Any = print,
) -> Findings:
    """Try the laws in turns until the time is over.

    Args:
        minutes: How long.
        laws: The laws, by name.
        seed: The first of the seeds that are used one after the other.
        patience: Seconds for making a failure smaller.
        most: How many failures of a law are enough, after which it is left out.
        examples: How many situations of a law are drawn from a seed.
        report: Is called with each failure at once.
    """
    findings, end = Findings(), time.monotonic() + 60 * minutes
    failures: collections.Counter[str] = collections.Counter()
    while time.monotonic() < end:
        left = [name for name in laws if failures[name] < most]
        for name in left:
            if time.monotonic() >= end:
                break
            broken = _round(LAWS[name], seed, examples, findings, patience)
            if broken is not None:
                failures[name] += 1
                findings.broken.setdefault(*broken)
                report(f"{broken[0]}\n    {broken[1]}")
            gc.collect()
        if not left:
            break
        seed += 1
    return findings


def sample(
    situations: Any,
    check: Callable[[Any], None],
    *,
    seed: int,
    examples: int,
    shrink: bool,
) -> None:
    """Check some situations, always the same ones from the same seed.

    Args:
        situations: Draws them.
        check: Raises where something is wrong.
        seed: Determines, with `examples`, what is drawn.
        examples: How many.
        shrink: Whether to make a situation smaller in which something is wrong.
    """
    made = hypothesis.given(situations)(check)
    settings = hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        # A training takes a second where Hypothesis expects milliseconds.
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, *([Phase.shrink] if shrink else [])],
    )
    hypothesis.seed(seed)(settings(made))()


def _round(
    law: Law, seed: int, examples: int, findings: Findings, patience: float
) -> tuple[str, str] | None:
    """Some examples of a law; the smallest that breaks it, and what the law says."""
    failing: dict[str, str] = {}
    first: list[float] = []

    def check(situation: Any) -> None:
        if not first:
            findings.tried[law.name] += 1
            findings.drawn.update(set(features(situation)))
        elif time.monotonic() - first[0] > patience:
            return  # Nothing fails any more, so Hypothesis stops making it smaller.
        try:
            law.check(situation)
        except Exception as error:
            first.append(time.monotonic())
            said = " ".join(str(error).split())[:400]
            failing[f"{law.name}({situation!r})"] = f"{type(error).__name__}: {said}"
            raise

    try:
        sample(law.situations, check, seed=seed, examples=examples, shrink=True)
    except Exception:
        smallest = min(failing, key=len)
        return smallest, failing[smallest]
    return None


def replay(line: str) -> None:
    """Check a law in one situation, as `search` prints it."""
    eval(line, names())


def names() -> dict[str, Any]:
    """All descriptions and laws by their names, for what is printed."""
    described = {kind.__name__: kind for kind in kinds()}
    return {**described, **{name: law.check for name, law in LAWS.items()}}


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("line", nargs="?")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--laws", nargs="*", default=list(LAWS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patience", type=float, default=60)
    parser.add_argument("--most", type=int, default=3)
    parser.add_argument("--examples", type=int, default=20)
    given = parser.parse_args()
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    keras.config.disable_traceback_filtering()
    if given.line:
        replay(given.line)
        return
    settings = {name: vars(given)[name] for name in ("laws", "seed", "examples")}
    limits = {name: vars(given)[name] for name in ("minutes", "patience", "most")}
    print(search(**settings, **limits))


if __name__ == "__main__":
    _main()
