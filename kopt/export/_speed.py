"""How much faster one file is than another, in each runtime that is installed."""

from __future__ import annotations

import importlib
import statistics
import time
import warnings
from typing import Any

import numpy as np

RUNTIMES = {
    "LiteRT": "ai_edge_litert.interpreter",
    "tf.lite": "tensorflow.lite.python.interpreter",
}


def speedups(slow: bytes, fast: bytes, rounds: int) -> dict[str, float]:
    """The time of a file as a multiple of another's, by runtime, on one thread.

    Medians of runs in turns: what else the machine does falls on both. A runtime that
    is not installed, or that cannot run one of the files, is left out.

    Args:
        slow: A TFLite file.
        fast: The other one.
        rounds: How often each is timed, after five times that do not count.
    """
    found = {}
    for name, module in RUNTIMES.items():
        try:
            ready = [_ready(module, content) for content in (slow, fast)]
        except (ImportError, RuntimeError, ValueError):
            continue
        times: list[list[float]] = [[], []]
        for number in range(rounds + 5):
            for runtime, own in zip(ready, times, strict=True):
                begun = time.perf_counter()
                runtime.invoke()
                if number >= 5:
                    own.append(time.perf_counter() - begun)
        first, second = map(statistics.median, times)
        found[name] = first / second
    return found


def _ready(module: str, content: bytes) -> Any:
    kind = importlib.import_module(module).Interpreter
    with warnings.catch_warnings():
        # tf.lite says that it moves to LiteRT.
        warnings.simplefilter("ignore")
        runtime = kind(model_content=content, num_threads=1)
    runtime.allocate_tensors()
    for taken in runtime.get_input_details():
        runtime.set_tensor(taken["index"], np.zeros(taken["shape"], taken["dtype"]))
    runtime.invoke()
    return runtime
