"""How each optimizer is made for a run of training, and where its rates are looked for.

Arguments are the defaults, but for those that the method's docstring ties to the length
of a run, and for momentum, without which SGD is no baseline. All follow the same
schedule, a warm-up and then a cosine to zero, except those that replace a schedule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras

import kopt

PEER = "Keras Adam"
Make = Callable[[object, int], keras.optimizers.Optimizer]


@dataclass(frozen=True)
class Method:
    """A way of training.

    Args:
        make: Gives a new optimizer from a learning rate or schedule and the number of
            steps of the run.
        rate: Where the search for the best learning rate begins.
        scheduled: Whether the rate follows the schedule.
    """

    make: Make
    rate: float
    scheduled: bool = True

    def optimizer(self, rate: float, steps: int) -> keras.optimizers.Optimizer:
        if not self.scheduled:
            return self.make(rate, steps)
        warm_up = max(1, steps // 20)
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0, steps - warm_up, warmup_target=rate, warmup_steps=warm_up
        )
        return self.make(schedule, steps)


def _plain(name: str, rate: float, **arguments: object) -> Method:
    return Method(lambda lr, _: getattr(kopt, name)(lr, **arguments), rate)


def _ademamix(rate: object, steps: int) -> keras.optimizers.Optimizer:
    # The slow momentum of a short run must not remember longer than the run lasts.
    warm_ups = {"alpha_warmup": steps, "beta_3_warmup": steps}
    return kopt.AdEMAMix(rate, beta_3=0.999, **warm_ups)


METHODS = {
    PEER: Method(lambda lr, _: keras.optimizers.Adam(lr), 3e-3),
    "SGD": _plain("SGD", 0.1, momentum=0.9, nesterov=True),
    "RMSprop": _plain("RMSprop", 1e-3),
    "Adagrad": _plain("Adagrad", 3e-2),
    "Adam": _plain("Adam", 3e-3),
    "AdamW": _plain("AdamW", 3e-3),
    "NAdamW": _plain("NAdamW", 3e-3),
    "LazyAdam": _plain("LazyAdam", 3e-3),
    "StableAdamW": _plain("StableAdamW", 3e-3),
    "RAdam": _plain("RAdam", 3e-3),
    "AdaBelief": _plain("AdaBelief", 3e-3),
    "Yogi": _plain("Yogi", 1e-2),
    "NovoGrad": _plain("NovoGrad", 3e-3),
    "Adan": _plain("Adan", 3e-3),
    "AdEMAMix": Method(_ademamix, 3e-3),
    "ADOPT": _plain("ADOPT", 3e-3),
    "MARS": _plain("MARS", 3e-3),
    "LAMB": _plain("LAMB", 1e-2),
    "LARS": _plain("LARS", 10.0),
    "Lion": _plain("Lion", 3e-4),
    "Muon": _plain("Muon", 3e-3),
    # Not the vocabulary, whose 5,000 x 5,000 basis keeps a core busy for minutes.
    "SOAP": _plain("SOAP", 3e-3, max_precondition_dim=1024),
    "Adafactor": _plain("Adafactor", 3e-2),
    "CAME": _plain("CAME", 1e-3),
    "APOLLO": _plain("APOLLO", 1e-2),
    "Prodigy": _plain("Prodigy", 1.0),
    "Lookahead": Method(lambda lr, _: kopt.Lookahead(kopt.Adam(lr)), 3e-3),
    "WeightAverage": Method(
        lambda lr, _: kopt.WeightAverage(kopt.Adam(lr), momentum=0.99), 3e-3
    ),
    "ScheduleFree": Method(
        lambda lr, _: kopt.ScheduleFree(kopt.RMSprop(lr)), 1e-3, scheduled=False
    ),
    "ScheduleFreeAdamW": Method(
        lambda lr, steps: kopt.ScheduleFreeAdamW(lr, warmup_steps=max(1, steps // 20)),
        1e-2,
        scheduled=False,
    ),
    "ScheduleFreeSGD": Method(
        lambda lr, steps: kopt.ScheduleFreeSGD(lr, warmup_steps=max(1, steps // 20)),
        1.0,
        scheduled=False,
    ),
    "MomentumSAM": Method(
        lambda lr, _: kopt.MomentumSAM(kopt.SGD(lr, momentum=0.9)), 0.1
    ),
    "Mechanic": Method(lambda lr, _: kopt.Mechanic(kopt.Adam(lr)), 1.0),
}

#: What `title` says of a wrapper, whose name does not name what is inside.
INSIDE = {
    "SGD": "momentum 0.9",
    "Lookahead": "of Adam",
    "WeightAverage": "EMA of Adam",
    "ScheduleFree": "of RMSprop",
    "MomentumSAM": "of SGD",
    "Mechanic": "of Adam",
}


def title(name: str) -> str:
    return f"{name}, {INSIDE[name]}" if name in INSIDE else name


def missing() -> list[str]:
    """Optimizers of kopt that have no method here."""
    return [row.name for row in kopt.optimizers.table() if row.name not in METHODS]
