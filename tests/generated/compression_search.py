"""Looks for models on which a law of compression is broken, as long as it may.

    KOPT_GENERATED_MINUTES=60 pytest -m thorough tests/generated
    python -m tests.generated.compression_search 10 a_file_is_the_model_or_is_refused

Each failure is made smaller and printed as a line that can be pasted into a test.
"""

from __future__ import annotations

import gc
import sys
import time
import traceback
import warnings
from collections.abc import Iterable

import hypothesis
import keras
from hypothesis import HealthCheck, Phase

from tests.generated.compression_laws.all_laws import LAWS

#: Examples of a law between a look at the clock and the next.
_ROUND = 8
#: Seconds for making a failure smaller.
_SHRINKING = 60.0


def search(minutes: float, names: Iterable[str] = (), seed: int = 0) -> dict[str, str]:
    """Try the laws in turns until the time is up.

    Args:
        minutes: How long.
        names: The laws to try. Defaults to all.
        seed: Where the first round begins.

    Returns:
        For each law that was broken the smallest situation, as a call to paste, and
        what went wrong.
    """
    end, broken = time.monotonic() + 60 * minutes, {}
    laws = [LAWS[name] for name in names or LAWS]
    while time.monotonic() < end and len(broken) < len(laws):
        for law in laws:
            if law.name not in broken and time.monotonic() < end:
                found = first_failure(law, _ROUND, seed, end)
                if found:
                    broken[law.name] = found
                    print(found, flush=True)
                gc.collect()
        seed += 1
    return broken


def first_failure(
    law: object, examples: int, seed: int, end: float = float("inf")
) -> str | None:
    """The smallest failure among some examples, as text; None if there is none."""
    failures: list[str] = []
    give_up = [end]

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
    )
    @hypothesis.given(law.situations)
    def check(situation):
        if time.monotonic() > give_up[0]:
            return
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                law.check(*situation)
        except Exception as error:
            call = f"{law.name}({', '.join(map(repr, situation))})"
            text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            places = traceback.extract_tb(error.__traceback__)[-4:]
            text += "".join(f"\n        {one.filename}:{one.lineno}" for one in places)
            if not failures:
                give_up[0] = time.monotonic() + _SHRINKING
            failures.append(f"{call}\n    {text}")
            raise
        finally:
            keras.utils.clear_session(free_memory=False)

    try:
        check()
    except Exception:
        if not failures:
            raise
        return min(failures, key=len)
    return None


if __name__ == "__main__":
    found = search(float(sys.argv[1]), sys.argv[2:])
    print(f"{len(found)} of {len(sys.argv[2:]) or len(LAWS)} laws were broken")
    sys.exit(bool(found))
