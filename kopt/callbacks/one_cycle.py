from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import keras

from kopt import _checks, schedules
from kopt._keras.callbacks_beside import go_first
from kopt._registry import register
from kopt.callbacks import _owners, _targets
from kopt.callbacks.fit_schedule import FitSchedule

# How low and how high momentum is where "auto" finds one, as in torch.
_RANGE = (0.85, 0.95)
# The hyper-parameters that are a momentum, in the order in which they are looked for.
_NAMES = ("momentum", "beta_1")


@register("callbacks", serializable=False)
class OneCycle(_owners.Mover):
    """Train in one cycle: the learning rate up and down, momentum against it.

    The 1cycle policy of `kopt.schedules.OneCycle`, over the length of the `fit`, with
    the second half of the recipe: where the rate is high, momentum is low. Both are set
    before each batch and are in the logs. `kopt.callbacks.LRFinder` finds the maximum.

    Momentum is `momentum` of `kopt.SGD`, `kopt.RMSprop`, `kopt.LARS` that were made
    with one above 0, and of `kopt.Muon`; and `beta_1` of `kopt.Adam` and all that have
    one (as torch's `OneCycleLR` moves `betas[0]`), also inside of wrappers. With any
    other optimizer (all of Keras's) `"auto"` moves the rate alone; `moves` says which
    of them it moved.

    Args:
        maximum: The highest learning rate. Greater than 0.
        rise: How much of the run is the way up, as in `kopt.schedules.OneCycle`.
            Defaults to `0.3`.
        initial_divisor: The first rate is `maximum` divided by this. At least 1.
            Defaults to `25.0`.
        final_divisor: The last rate is the first one divided by this. At least 1.
            Defaults to `1e4`.
        kind: The way between these: `"cosine"` or `"linear"`. Defaults to `"cosine"`.
        three_phases: Whether the way down is as long as that up and ends where that
            began. Defaults to `False`.
        momentum: The lowest and the highest momentum, from 0 to less than 1: the
            highest where the rate is lowest. `None` leaves it alone. Defaults to
            `"auto"`: from 0.85 to 0.95 where it can be moved.
        total_steps: Length of the run in batches, as in `kopt.callbacks.FitSchedule`.
            Defaults to that of the present `fit`.
        epochs: Length of the run in epochs, instead of `total_steps`.
        minutes: Length of the run in minutes, instead of either.

    Attributes:
        moves: What moved in the last `fit`: `("learning_rate", "momentum")`,
            `("learning_rate", "beta_1")`, or the rate alone.

    Raises:
        ValueError: If an argument is out of its range. When training begins, if
            another callback sets one of the two, if a `momentum` was given and the
            optimizer has none that can be moved, or where `FitSchedule` raises one.

    References:
        Smith and Topin, 2017, Super-Convergence: Very Fast Training of Neural Networks
        Using Large Learning Rates, [arXiv:1708.07120](https://arxiv.org/abs/1708.07120);
        Smith, 2018, A Disciplined Approach to Neural Network Hyper-Parameters, Part 1,
        [arXiv:1803.09820](https://arxiv.org/abs/1803.09820), on momentum.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile(kopt.SGD(momentum=0.9), "mse")
    >>> cycle = kopt.callbacks.OneCycle(0.1, rise=0.5)
    >>> history = model.fit(np.ones((8, 2)), np.ones(8), batch_size=8, epochs=4,
    ...     verbose=0, callbacks=[cycle]).history
    >>> [round(rate, 3) for rate in history["learning_rate"]]
    [0.004, 0.052, 0.1, 0.05]
    >>> [round(momentum, 3) for momentum in history["momentum"]]
    [0.95, 0.9, 0.85, 0.9]
    """

    target = "learning_rate"
    is_curve = True
    #: Keras need not wait for it after a batch: it only adds to the logs.
    async_safe = True

    def __init__(
        self,
        maximum: float,
        rise: float = 0.3,
        initial_divisor: float = 25.0,
        final_divisor: float = 1e4,
        kind: str = "cosine",
        *,
        three_phases: bool = False,
        momentum: tuple[float, float] | str | None = "auto",
        total_steps: int | None = None,
        epochs: int | None = None,
        minutes: float | None = None,
    ):
        super().__init__()
        self.schedule = schedules.OneCycle(
            maximum,
            1.0,
            rise,
            initial_divisor,
            final_divisor,
            kind,
            three_phases=three_phases,
        )
        self.momentum = _checked_momentum(momentum)
        self.total_steps, self.epochs, self.minutes = total_steps, epochs, minutes
        self.moves: tuple[str, ...] = ()
        self._rate = self._curve(self.schedule, "learning_rate")
        self._running: list[FitSchedule] = [self._rate]

    def parts(self) -> Sequence[_owners.Mover]:
        if self.model is None:
            return (self._rate,)
        return self._curves()

    def described(self) -> str:
        listed = str(self.schedule).replace(", steps=1.0", "", 1)
        return f"{listed.rstrip(')')}, momentum={self.momentum!r})"

    def set_params(self, params: dict[str, Any]) -> None:
        super().set_params(params)
        self._rate.set_params(params)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._running = self._curves()
        self.moves = tuple(curve.name for curve in self._running)
        for curve in self._running:
            curve.set_params(self.params)
            curve.set_model(self.model)
            curve.on_train_begin(logs)
        go_first(self)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        for curve in self._running:
            curve.on_epoch_begin(epoch, logs)

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        for curve in self._running:
            curve.on_train_batch_begin(batch, logs)

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        for curve in self._running:
            curve.on_train_batch_end(batch, logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        for curve in self._running:
            curve.on_epoch_end(epoch, logs)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        for curve in self._running:
            curve.on_test_begin(logs)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        # What it may have to warn of is said once.
        self._rate.on_train_end(logs)

    def get_state(self) -> dict[str, Any]:
        """Where on the curves the run is, for `kopt.callbacks.BackupAndRestore`."""
        return {curve.name: curve.get_state() for curve in self._running}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on on the curves.

        Raises:
            ValueError: If a curve is now of another length.
        """
        for curve in self._running:
            curve.set_state(state[curve.name])

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        """Ready callbacks, as the conformance tests use them."""
        return cls(0.05), cls(0.05, rise=0.4, kind="linear", three_phases=True)

    def _curves(self) -> list[FitSchedule]:
        """The curves for the model that the callback is used with."""
        if self.momentum is None:
            return [self._rate]
        name = _movable_momentum(self.model)
        if name is None and self.momentum == "auto":
            return [self._rate]
        low, high = _RANGE if isinstance(self.momentum, str) else self.momentum
        # One that is there and cannot move is told by the error of its curve.
        optimizer = _targets.optimizer_of(self.model)
        asked = (one for one in _NAMES if getattr(optimizer, one, None) is not None)
        name = name or next(asked, _NAMES[0])
        return [self._rate, self._curve(self._against(low, high), name)]

    def _curve(self, schedule: schedules.Schedule, target: str) -> FitSchedule:
        curve = FitSchedule(
            schedule, target, self.total_steps, self.epochs, minutes=self.minutes
        )
        curve.part_of = self
        return curve

    def _against(self, low: float, high: float) -> schedules.Schedule:
        """A curve that is highest where the cycle begins and ends."""
        # A cycle that begins at half of its maximum rises by the other half.
        cycle = schedules.OneCycle(
            2.0 * (high - low),
            self.schedule.steps,
            self.schedule.rise,
            initial_divisor=2.0,
            final_divisor=1.0,
            kind=self.schedule.kind,
            three_phases=self.schedule.three_phases,
        )
        return _Against(cycle, 2.0 * high - low)


class _Against(schedules.Schedule):
    """What is left of a number when the values of a schedule are taken off it."""

    def __init__(self, schedule: schedules.Schedule, whole: float):
        self.schedule = schedule
        self.whole = whole

    def curve(self, step: Any) -> Any:
        return self.whole - self.schedule.curve(step)

    @property
    def bound(self) -> bool:
        return self.schedule.bound

    @property
    def counts_steps(self) -> bool:
        return self.schedule.counts_steps

    def bind(self, total_steps: int) -> Self:
        return type(self)(self.schedule.bind(total_steps), self.whole)

    @property
    def peak(self) -> float:
        return self.whole

    @property
    def duration(self) -> int | None:
        return self.schedule.duration

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return tuple(cls(one, 1.0) for one in schedules.OneCycle.examples())


def _movable_momentum(model: keras.Model) -> str | None:
    """The name of the momentum that the optimizer of a model holds in a variable."""
    level: Any = _targets.optimizer_of(model)
    while level is not None:
        for name in _NAMES:
            held = isinstance(getattr(level, name, None), keras.Variable)
            movable = (*getattr(level, "movable", ()), *getattr(level, "may_move", ()))
            if held or name in movable:
                return name
        level = getattr(level, "inner_optimizer", None)
    return None


def _checked_momentum(momentum: Any) -> tuple[float, float] | str | None:
    if momentum is None or (isinstance(momentum, str) and momentum == "auto"):
        return momentum
    if not isinstance(momentum, (tuple, list)) or len(momentum) != 2:
        raise TypeError(
            "`momentum` must be the lowest and the highest value, 'auto' or None. "
            f"Received: momentum={momentum!r}. Write momentum=(0.85, 0.95)."
        )
    low = _checks.number("momentum[0]", momentum[0], low=0.0, high=1.0, high_open=True)
    high = _checks.number(
        "momentum[1]", momentum[1], low=low, high=1.0, low_open=True, high_open=True
    )
    return low, high
