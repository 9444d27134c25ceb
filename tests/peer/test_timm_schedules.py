"""Curves beside timm's schedulers, over their length, at step 0 and past the end."""

import importlib
import importlib.util
import sys
import types

import numpy as np
import pytest

from kopt.schedules import (
    WSD,
    Cosine,
    CosineRestarts,
    Exponential,
    MultiStep,
    Polynomial,
)

pytestmark = pytest.mark.peer
RATE = 0.5


@pytest.fixture
def scheduler(monkeypatch):
    """timm's schedulers, without the rest of it, which needs torchvision.

    On PyPI that has no build for torch's processor version.
    """
    pytest.importorskip("torch")
    found = importlib.util.find_spec("timm")
    if found is None:
        pytest.skip("timm is not installed: pip install --no-deps timm==1.0.31")
    package = types.ModuleType("timm")
    package.__path__ = list(found.submodule_search_locations)
    monkeypatch.setitem(sys.modules, "timm", package)
    yield importlib.import_module("timm.scheduler")
    for name in [name for name in sys.modules if name.startswith("timm.")]:
        del sys.modules[name]


def rates(make, steps, **arguments):
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=RATE)
    peer = make(optimizer, **arguments)
    found = []
    for step in range(steps):
        peer.step(step)
        found.append(optimizer.param_groups[0]["lr"])
    return found


CASES = {
    "cosine": (
        "CosineLRScheduler",
        {"t_initial": 40, "lr_min": 0.1},
        Cosine(RATE, 40, final=0.1),
    ),
    "restarts": (
        "CosineLRScheduler",
        {
            "t_initial": 10,
            "lr_min": 0.1,
            "cycle_mul": 2.0,
            "cycle_decay": 0.5,
            "cycle_limit": 2,
        },
        CosineRestarts(RATE, 30, cycles=2, final=0.1, growth=2.0, decay=0.5),
    ),
    "polynomial": (
        "PolyLRScheduler",
        {"t_initial": 40, "power": 0.9, "lr_min": 0.1},
        Polynomial(RATE, 40, 0.9, final=0.1),
    ),
    "steps": (
        "StepLRScheduler",
        {"decay_t": 7, "decay_rate": 0.7},
        Exponential(RATE, 7, 0.7, staircase=True),
    ),
    # timm counts from one: its epoch 12 is the thirteenth.
    "milestones": (
        "MultiStepLRScheduler",
        {"decay_t": [12, 30], "decay_rate": 0.3},
        MultiStep(RATE, [11, 29], 0.3),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_has_the_rates_of_timm(name, scheduler):
    kind, arguments, ours = CASES[name]
    theirs = rates(getattr(scheduler, kind), 60, **arguments)
    np.testing.assert_allclose(np.asarray(ours(np.arange(60))), theirs, rtol=1e-6)


@pytest.mark.parametrize("kind", ["1-sqrt", "linear", "cosine"])
def test_warm_up_stable_and_decay_are_those_of_timm(kind, scheduler):
    # kopt's first step has a quarter of the rate, and its fourth the whole.
    theirs = rates(
        scheduler.WSDLRScheduler,
        120,
        t_initial=97,
        decay_t=20,
        decay_fn=kind,
        lr_min=0.05,
        warmup_t=3,
        warmup_lr_init=RATE / 4,
    )
    ours = WSD(RATE, 100, warmup=4, decay=20, kind=kind, final=0.05)
    np.testing.assert_allclose(np.asarray(ours(np.arange(120))), theirs, rtol=1e-6)
