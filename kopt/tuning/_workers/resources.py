"""Cores, devices and memory of one machine, shared out among its workers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

# What the libraries beneath TensorFlow and NumPy read when they load.
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
)
_DEVICES = "CUDA_VISIBLE_DEVICES"
_SHARE_OF_MEMORY = 0.8


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cores_of_each(workers: int) -> int:
    """Cores that each of some workers gets: an equal share, and one at least."""
    return max(cores() // workers, 1)


def gpus(environment: Mapping[str, str]) -> list[str]:
    """The names of the GPUs that this process may use."""
    visible = environment.get(_DEVICES)
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        # As CUDA reads it: a name that is none hides all that follow.
        hidden = [place for place, name in enumerate(names) if name in ("", "-1")]
        return names[: hidden[0]] if hidden else names
    import tensorflow as tf

    return [str(i) for i, _ in enumerate(tf.config.list_physical_devices("GPU"))]


def environment(
    place: int, workers: int, devices: list[str], inherited: Mapping[str, str]
) -> dict[str, str]:
    """The environment of one of some workers.

    Args:
        place: The place of the worker, from 0.
        workers: How many there are.
        devices: The names of all GPUs.
        inherited: The environment of the process that starts them.
    """
    found = dict(inherited)
    for name in _THREADS:
        found[name] = str(cores_of_each(workers))
    if devices:
        found[_DEVICES] = devices[place % len(devices)]
    if workers > len(devices) > 0:
        # Two on one device: none may take all of its memory.
        found.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    return found


def memory_of_each(workers: int) -> int | None:
    """Bytes that each of some workers may have; `None` where it cannot be told."""
    known = [_physical(), _of_group(Path("/sys/fs/cgroup/memory.max"))]
    limits = [one for one in known if one is not None]
    return int(_SHARE_OF_MEMORY * min(limits) / workers) if limits else None


def memory_in_use() -> int:
    """Bytes that this process has for itself; 0 where it cannot be told."""
    path = Path("/proc/self/statm")
    if not path.exists():
        return 0
    _, resident, shared, *_ = path.read_text().split()
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def _physical() -> int | None:
    if not hasattr(os, "sysconf"):
        return None
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except ValueError:
        return None


def _of_group(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
