"""What a monitor found in a run, and how it says so."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a run.

    Args:
        kind: Its name: `"vanishing gradients"`, `"overfitting"`.
        text: What was seen, in a sentence.
        since: The step or the epoch from which on it was so, counted from 0.
        layers: The paths of the layers that are concerned, if it is about layers.
        advice: What helps, each in a sentence.
    """

    kind: str
    text: str
    since: int
    layers: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()


@dataclass(frozen=True)
class Diagnosis:
    """All that a monitor found. `print(diagnosis)` says it in words.

    Args:
        source: The class of the monitor.
        about: What it looked at, in a sentence.
        findings: What is wrong; empty if nothing is.
    """

    source: str
    about: str
    findings: tuple[Finding, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.about}"]
        if not self.findings:
            lines.append("Nothing is wrong with it.")
        for finding in self.findings:
            lines.append(finding.text)
            lines += [f"  - {one}" for one in finding.advice]
        return "\n".join(
            textwrap.fill(line, 88, subsequent_indent="    " if "  -" in line else "")
            for line in lines
        )


def listed(layers: Sequence[str]) -> str:
    """The names of some layers: all if they are few, else the first and the last."""
    names = [repr(layer) for layer in layers]
    if len(names) <= 6:
        return ", ".join(names)
    return f"{', '.join(names[:3])} ... {', '.join(names[-2:])}"
