"""What the pruning schedules share: when a step renews the masks."""

from __future__ import annotations

from typing import Any, Self

from keras import ops

from kopt import _checks

Tensor = Any


class PruningSchedule:
    """When to renew the masks and how sparse they are then.

    Steps count from 1: step 1 is the first training step after pruning was put on,
    and its masks are in place when it computes the loss. Any callable that takes a
    step and returns `(should_prune, sparsity)` serves as a schedule, and so do the
    schedules of TensorFlow Model Optimization.
    """

    begin_step: int
    end_step: int
    frequency: int

    def sparsity(self, step: Tensor) -> Tensor:
        """The share of zeros that a step asks for, from 0 to below 1."""
        raise NotImplementedError

    def __call__(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """Whether `step` renews the masks, and the sparsity it asks for."""
        due = is_due(step, self.begin_step, self.end_step, self.frequency)
        return due, self.sparsity(step)

    @property
    def first_step(self) -> int:
        """The first step that renews the masks; with `begin_step=0` not the first."""
        return self.begin_step or self.frequency

    @property
    def final_step(self) -> int:
        """The first step with the sparsity that the schedule asks for in the end."""
        renewals = (self.end_step - self.begin_step) // self.frequency
        return self.begin_step + renewals * self.frequency

    def get_config(self) -> dict[str, Any]:
        return {
            "begin_step": self.begin_step,
            "end_step": self.end_step,
            "frequency": self.frequency,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)

    def in_epochs(self, steps_per_epoch: int) -> Self:
        """The same schedule, with every number of steps read as one of epochs.

        `PolynomialDecay(0.0, 0.8, 0, 10, frequency=1).in_epochs(len(batches))` ends
        after ten epochs and renews the masks once in each.

        Args:
            steps_per_epoch: How many batches an epoch has.

        Raises:
            ValueError: If it is less than 1.
        """
        steps = _checks.integer("steps_per_epoch", steps_per_epoch, low=1)
        config = self.get_config()
        epochs = PruningSchedule.get_config(self)
        config |= {name: n if n == -1 else n * steps for name, n in epochs.items()}
        return self.from_config(config)


class Ramp(PruningSchedule):
    """Sparsity that moves from one value to another between two steps."""

    def __init__(
        self,
        initial_sparsity: float,
        final_sparsity: float,
        begin_step: int,
        end_step: int,
        frequency: int = 100,
    ) -> None:
        self.initial_sparsity = checked_sparsity("initial_sparsity", initial_sparsity)
        self.final_sparsity = checked_sparsity("final_sparsity", final_sparsity)
        self.begin_step, self.end_step, self.frequency = checked_steps(
            begin_step, end_step, frequency, endless=False
        )

    def ahead(self, progress: Tensor) -> Tensor:
        """The share of the way that lies ahead, from the share of the time passed."""
        raise NotImplementedError

    def sparsity(self, step: Tensor) -> Tensor:
        if self.begin_step == self.end_step:
            return ops.convert_to_tensor(self.final_sparsity, "float32")
        passed = ops.cast(ops.convert_to_tensor(step) - self.begin_step, "float32")
        progress = ops.clip(passed / (self.end_step - self.begin_step), 0.0, 1.0)
        change = self.initial_sparsity - self.final_sparsity
        return change * self.ahead(progress) + self.final_sparsity

    def get_config(self) -> dict[str, Any]:
        return {
            "initial_sparsity": self.initial_sparsity,
            "final_sparsity": self.final_sparsity,
            **super().get_config(),
        }


def is_due(step: Tensor, begin_step: int, end_step: int, frequency: int) -> Tensor:
    """Whether a step is `begin_step` or a multiple of `frequency` steps later.

    No step after `end_step` is, unless that is -1.
    """
    step = ops.convert_to_tensor(step)
    on_turn = ops.equal((step - begin_step) % frequency, 0)
    due = ops.logical_and(ops.greater_equal(step, begin_step), on_turn)
    if end_step == -1:
        return due
    return ops.logical_and(due, ops.less_equal(step, end_step))


def checked_sparsity(name: str, value: Any) -> float:
    hint = "0.8 turns 80 % of the weights to zero; 1.0 would leave none."
    return _checks.number(name, value, low=0.0, high=1.0, high_open=True, hint=hint)


def checked_steps(
    begin_step: Any, end_step: Any, frequency: Any, *, endless: bool
) -> tuple[int, int, int]:
    begin_step = _checks.integer("begin_step", begin_step, low=0)
    frequency = _checks.integer("frequency", frequency, low=1)
    if endless and end_step == -1:
        return begin_step, -1, frequency
    hint = "Pass -1 to go on to the end of training." if endless else ""
    end_step = _checks.integer("end_step", end_step, low=begin_step, hint=hint)
    return begin_step, end_step, frequency
