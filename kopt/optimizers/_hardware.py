"""What the update that is being traced will run on, and what that is good at."""

from __future__ import annotations

import functools
from pathlib import Path

import tensorflow as tf

# Ampere, the first generation that has it.
_CUDA_CAPABILITY = (8, 0)
_PROCESSOR_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


def multiplies_bfloat16() -> bool:
    """Whether products of bfloat16 matrices have instructions of their own."""
    cards = tf.config.list_physical_devices("GPU")
    if cards:
        details = [tf.config.experimental.get_device_details(card) for card in cards]
        found = [detail.get("compute_capability", (0, 0)) for detail in details]
        return min(found) >= _CUDA_CAPABILITY
    return bool(_PROCESSOR_FLAGS & _processor_flags())


@functools.cache
def _processor_flags(source: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """What Linux lists of a processor's instructions; nothing elsewhere."""
    try:
        lines = source.read_text().splitlines()
    except OSError:
        return frozenset()
    listed = [line.partition(":")[2] for line in lines if _lists_flags(line)]
    return frozenset(listed[0].split() if listed else ())


def _lists_flags(line: str) -> bool:
    # x86, then Arm.
    return line.partition(":")[0].strip() in ("flags", "Features")
