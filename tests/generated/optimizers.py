"""Optimizers with flags, groups and wrappers: descriptions, and how to draw one."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass, field
from typing import Any

import keras
from hypothesis import strategies as st

import kopt
from kopt import _registry
from tests.generated.description import Description

#: A power of two, so that products with it do not round.
RATE = 2.0**-6


def _of_kind(wraps: bool) -> tuple[str, ...]:
    entries = {
        n: _registry.entry("optimizers", n) for n in _registry.names("optimizers")
    }
    return tuple(
        name
        for name, entry in entries.items()
        if inspect.isclass(entry)
        and issubclass(entry, keras.optimizers.Optimizer)
        and issubclass(entry, kopt.optimizers.Wrapper) == wraps
    )


METHODS = _of_kind(wraps=False)
#: Those that make their inner optimizer themselves are drawn like methods.
PRESETS = tuple(
    name
    for name in _of_kind(wraps=True)
    if "inner_optimizer" not in inspect.signature(getattr(kopt, name)).parameters
)
WRAPPERS = tuple(name for name in _of_kind(wraps=True) if name not in PRESETS)
#: Wrappers that evaluate at an average of the weights that they train.
AVERAGES = ("WeightAverage", "Lookahead")
#: What methods need to move a small model at all.
_TRAINS: dict[str, dict[str, Any]] = {
    "Prodigy": {"learning_rate": 1.0, "d0": 1e-3},
    "LARS": {"learning_rate": 0.2, "trust_coefficient": 0.1},
}
_WRAPPER_OPTIONS: dict[str, dict[str, Any]] = {
    "Lookahead": {"sync_period": 2},
    "Mechanic": {"s_init": 1e-2},
}
#: Flags to draw from; each is a set of options that belong together.
FLAGS: dict[str, dict[str, Any]] = {
    "decay": {"weight_decay": 0.1},
    "l2": {"weight_decay": 0.1, "weight_decay_mode": "l2"},
    "independent": {"weight_decay": 0.01, "weight_decay_mode": "independent"},
    "cautious decay": {"weight_decay": 0.1, "weight_decay_mode": "cautious"},
    "clipnorm": {"clipnorm": 0.2},
    "clipvalue": {"clipvalue": 0.1},
    "global_clipnorm": {"global_clipnorm": 0.5},
    "ema": {"use_ema": True, "ema_momentum": 0.75},
    "ema overwriting": {
        "use_ema": True,
        "ema_momentum": 0.75,
        "ema_overwrite_frequency": 2,
    },
    "accumulation": {"gradient_accumulation_steps": 2},
    "cautious": {"cautious": True},
    "centralization": {"gradient_centralization": True},
    "agc": {"agc": 0.05},
    "lazy": {"sparse": "lazy"},
    "bfloat16 state": {"state_dtype": "bfloat16"},
    "stochastic": {"bf16_rounding": "stochastic"},
    "kahan": {"bf16_rounding": "kahan"},
    "loss scale": {"loss_scale_factor": 8.0},
}
_ALIKE = (
    ("decay", "l2", "independent", "cautious decay"),
    ("clipnorm", "clipvalue", "global_clipnorm"),
    ("ema", "ema overwriting"),
    ("stochastic", "kahan"),
)


@dataclass(frozen=True, repr=False)
class Group(Description):
    """A `ParamGroup` of the variables whose path matches."""

    match: str = "head_0"
    multiplier: float = 1.0
    frozen: bool = False

    def build(self) -> kopt.ParamGroup:
        return kopt.ParamGroup(self.match, self.multiplier, frozen=self.frozen)


@dataclass(frozen=True, repr=False)
class Optimizer(Description):
    """An optimizer of the registry.

    Args:
        method: The class that takes the steps.
        options: Its arguments, beside those that it needs to move a small model.
        groups: Its parameter groups.
        wrapper: The class around it.
        wrapper_options: Arguments of that, likewise.
        plain: Keras's optimizer of the same name, as a control.
    """

    method: str = "SGD"
    options: dict[str, Any] = field(default_factory=dict)
    groups: tuple[Group, ...] = ()
    wrapper: str | None = None
    wrapper_options: dict[str, Any] = field(default_factory=dict)
    plain: bool = False

    def build(self) -> keras.optimizers.Optimizer:
        options = {
            "learning_rate": RATE,
            **_TRAINS.get(self.method, {}),
            **self.options,
        }
        if self.plain:
            return getattr(keras.optimizers, self.method)(**options)
        if self.groups:
            options["param_groups"] = [group.build() for group in self.groups]
        made = getattr(kopt, self.method)(**options)
        if self.wrapper is None:
            return made
        around = {**_WRAPPER_OPTIONS.get(self.wrapper, {}), **self.wrapper_options}
        return getattr(kopt, self.wrapper)(made, **around)

    @property
    def averages(self) -> bool:
        """Whether the model is evaluated at an average of the weights it trained."""
        return bool(self.options.get("use_ema")) or self.wrapper in AVERAGES

    @property
    def is_wrapped(self) -> bool:
        return self.wrapper is not None or self.method in PRESETS


OPTIMIZER = Optimizer()


@st.composite
def optimizers(
    draw: Any,
    methods: tuple[str, ...] = (*METHODS, *PRESETS),
    flags: tuple[str, ...] = tuple(FLAGS),
    wrappers: tuple[str | None, ...] = (None, *WRAPPERS),
    groups: bool = True,
) -> Optimizer:
    """Draw an optimizer that kopt does not refuse.

    Args:
        methods: Classes to draw from.
        flags: Keys of `FLAGS` to draw from.
        wrappers: Wrappers to draw from; `None` is drawn in one half of the cases.
        groups: Whether it may have parameter groups.
    """
    method = draw(st.sampled_from(methods))
    wrapper = None
    if method not in PRESETS and any(wrappers) and draw(st.booleans()):
        wrapper = draw(st.sampled_from(wrappers))
    if wrapper == "MomentumSAM" and method not in with_momentum():
        method = draw(st.sampled_from(with_momentum()))
    chosen: list[str] = []
    for flag in draw(st.lists(st.sampled_from(flags), max_size=3, unique=True)):
        alike = next((names for names in _ALIKE if flag in names), (flag,))
        averaged = wrapper is not None or method in PRESETS
        refused = (averaged and flag.startswith("ema")) or (
            (method, flag) == ("Prodigy", "cautious decay")
        )
        if not refused and not set(alike) & set(chosen):
            chosen.append(flag)
    options = {name: v for flag in chosen for name, v in FLAGS[flag].items()}
    return Optimizer(method, options, draw(_groups()) if groups else (), wrapper)


@functools.cache
def with_momentum() -> tuple[str, ...]:
    """The methods that have a momentum, which MomentumSAM follows."""
    variable = keras.Variable([[1.0]])
    return tuple(n for n in METHODS if "momentum" in getattr(kopt, n)().slots(variable))


def _groups() -> st.SearchStrategy[tuple[Group, ...]]:
    kinds = st.builds(
        Group,
        match=st.just("bias"),
        multiplier=st.sampled_from((0.5, 1.0, 2.0)),
        frozen=st.booleans(),
    )
    one = kinds.map(lambda group: (group,))
    two = st.tuples(kinds, st.just(Group("head_0/kernel", 0.5)))
    return st.one_of(st.just(()), st.just(()), one, two)
