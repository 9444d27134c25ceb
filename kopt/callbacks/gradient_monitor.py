from __future__ import annotations

from typing import Any

import keras
import numpy as np

from kopt import _checks, _extras, _text_table
from kopt._findings import Diagnosis
from kopt._registry import register
from kopt.callbacks import _gradient_signs, _probe, _targets


@register("callbacks", serializable=False)
class GradientMonitor(keras.callbacks.Callback):
    """Watch the gradients of each layer, and name those that vanish or explode.

    At the beginning, every so many batches and at the end the gradients of a probe
    batch are taken beside the training step, which is left as it is: weights, random
    seeds, statistics and metrics of the run are the same with and without the monitor.
    Of each kernel it keeps the norm of its gradient, how long an update is beside the
    weights, and the share of units that no sample of the batch has a gradient for.

    A layer is named if it was so in the last measurement, and in half of all.

    Args:
        data: The probe batch: inputs and targets, `(x, y)`, or a data set whose first
            batch is taken.
        every: Measure each time after this many batches. At least 1. Defaults to
            `100`.
        samples: How many samples of `data` are taken at most. At least 1. Defaults to
            `32`.

    Attributes:
        layers: The paths of the layers with kernels, from the input to the output.
        steps: The batch before which each measurement was made.
        gradients: Norms of gradients, an array of measurements by layers.
        weights: Norms of the weights, likewise.
        dead: Shares of units without a gradient, likewise.
        updates: Norm of an update divided by that of the weights, likewise; NaN where
            the optimizer took no step after a measurement.

    Raises:
        ValueError: If an argument is out of its range. When training begins, if the
            model has no kernel that is trained, or `data` has no samples.

    Example:

    >>> keras.utils.set_random_seed(0)
    >>> deep = [keras.layers.Dense(8, "sigmoid", name=f"deep_{i}") for i in range(12)]
    >>> model = keras.Sequential([keras.Input((4,)), *deep, keras.layers.Dense(1)])
    >>> model.compile(kopt.SGD(0.1), "mse")
    >>> x, y = np.random.default_rng(0).normal(size=(64, 4)), np.ones((64, 1))
    >>> monitor = kopt.callbacks.GradientMonitor((x, y))
    >>> _ = model.fit(x, y, epochs=2, verbose=0, callbacks=[monitor])
    >>> (finding,) = monitor.diagnosis.findings
    >>> finding.kind, finding.layers[0].split("/")[-1]
    ('vanishing gradients', 'deep_0')
    """

    def __init__(self, data: Any, every: int = 100, samples: int = 32):
        super().__init__()
        self.data = data
        self.every = _checks.integer("every", every, low=1)
        self.samples = _checks.integer("samples", samples, low=1)
        self.layers: list[str] = []
        self.steps: list[int] = []
        self._measured: list[_probe.Measured] = []
        self._updates: list[np.ndarray] = []
        self._probe: _probe.Probe | None = None
        self._before: list[Any] | None = None

    @property
    def gradients(self) -> np.ndarray:
        return np.array([one.gradients for one in self._measured])

    @property
    def weights(self) -> np.ndarray:
        return np.array([one.weights for one in self._measured])

    @property
    def dead(self) -> np.ndarray:
        return np.array([one.dead for one in self._measured])

    @property
    def updates(self) -> np.ndarray:
        return np.array(self._updates)

    @property
    def diagnosis(self) -> Diagnosis:
        """What is wrong with which layers.

        Raises:
            ValueError: If nothing was measured yet.
        """
        self._check_measured()
        about = (
            f"{len(self.layers)} kernels, measured {len(self.steps)} times, the last "
            f"time at step {self.steps[-1]}."
        )
        if np.isfinite(self.updates).any():
            low, high = np.nanmin(self.updates), np.nanmax(self.updates)
            about += f" Updates are {low:.0e} to {high:.0e} times as long as weights."
        found = _gradient_signs.findings(self.layers, self.steps, self._measured)
        return Diagnosis(type(self).__name__, about, found)

    def summary(self) -> str:
        """The same in words, with what helps. Raises like `diagnosis`."""
        return str(self.diagnosis)

    def table(self) -> str:
        """The last measurement as text, a line a layer. Raises like `diagnosis`."""
        self._check_measured()
        last, rows = self._measured[-1], [("layer", "gradient", "update", "dead units")]
        update = self._last_update()
        for place, name in enumerate(self.layers):
            rows.append(
                (
                    name,
                    f"{last.gradients[place]:.2e}",
                    f"{update[place]:.1e}",
                    f"{last.dead[place]:.0%}",
                )
            )
        return _text_table.table(rows, left=(0,))

    def plot(self, ax: Any = None) -> Any:
        """Draw gradients, updates and dead units by layer with matplotlib.

        Args:
            ax: Three matplotlib `Axes` to draw into. By default those of a new figure.

        Returns:
            The three `Axes`.

        Raises:
            ImportError: If matplotlib is not installed.
            ValueError: If nothing was measured yet.
        """
        self._check_measured()
        pyplot = _extras.load("matplotlib.pyplot", "plot")
        if ax is None:
            size = (12, 1.5 + 0.22 * len(self.layers))
            _, ax = pyplot.subplots(
                1, 3, figsize=size, sharey=True, layout="constrained"
            )
        places = np.arange(len(self.layers))
        flagged = {name for one in self.diagnosis.findings for name in one.layers}
        colors = ["C3" if name in flagged else "C0" for name in self.layers]
        for axis, first, last, title in (
            (ax[0], self.gradients[0], self.gradients[-1], "norm of the gradient"),
            (ax[1], None, self._last_update(), "update / weights"),
            (ax[2], None, self.dead[-1], "dead units"),
        ):
            if first is not None:
                axis.plot(first, places, "o", color="0.75", label="at the beginning")
            axis.scatter(last, places, color=colors, zorder=3, label="at the end")
            axis.set(xlabel=title)
            axis.grid(alpha=0.3)
        for axis, values in ((ax[0], self.gradients), (ax[1], self._last_update())):
            if np.any(np.asarray(values) > 0):
                axis.set_xscale("log")
        ax[2].set_xlim(-0.05, 1.05)
        ax[0].legend(fontsize="small")
        ax[0].set_yticks(places, self.layers, fontsize="small")
        for label, color in zip(ax[0].get_yticklabels(), colors, strict=True):
            label.set_color(color if color == "C3" else "black")
        if not ax[0].yaxis_inverted():
            ax[0].invert_yaxis()
        return ax

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        _targets.build(self.model)
        self._kernels = _probe.kernels_of(self.model)
        if not self._kernels:
            raise ValueError(
                "The model has no kernel that is trained, so there are no gradients to "
                "watch. Set `trainable` of its layers, or train without the monitor."
            )
        self.layers = [kernel.layer for kernel in self._kernels]
        self.steps, self._measured, self._updates = [], [], []
        self._probe = _probe.Probe(self.model, self.data, self.samples, self._kernels)
        self._before = None
        self._batches, self._next = 0, 0

    # Before a batch and not after it, where Keras may not wait for a callback.
    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        self._note_update()
        if self._batches >= self._next:
            self._measure()
            self._next = self._batches + self.every
            self._before = _probe.copies(self._kernels)
            self._updated = self._updates_taken()
        self._batches += self.model.steps_per_execution

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._note_update()
        if not self.steps or self.steps[-1] != self._batches:
            self._measure()
        self._probe = self._before = None

    def get_state(self) -> dict[str, Any]:
        """The measurements so far."""
        return {
            "steps": list(self.steps),
            "measured": [list(one) for one in self._measured],
            "updates": self.updates,
            "batches": self._batches,
            "next": self._next,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from the measurements of another `fit`."""
        self.steps = list(state["steps"])
        self._measured = [
            _probe.Measured(float(loss), *map(np.asarray, arrays))
            for loss, *arrays in state["measured"]
        ]
        self._updates = list(np.asarray(state["updates"]))
        self._batches, self._next = state["batches"], state["next"]
        self._before = None

    @classmethod
    def examples(cls) -> tuple[GradientMonitor, ...]:
        """Ready callbacks, as the conformance tests use them."""
        data = np.ones((8, 4), "float32"), np.ones((8, 1), "float32")
        return (cls(data, every=5),)

    def _measure(self) -> None:
        assert self._probe is not None  # Only within a `fit`.
        self._measured.append(self._probe.measure())
        self._updates.append(np.full(len(self.layers), np.nan))
        self.steps.append(self._batches)

    def _note_update(self) -> None:
        """Take what the steps since the last measurement have changed."""
        if self._before is None:
            return
        count = self._updates_taken() - self._updated
        if not count:
            return  # Gradients are being accumulated.
        moved = _probe.distances(self._kernels, self._before)
        weights = self._measured[-1].weights
        with np.errstate(divide="ignore", invalid="ignore"):
            self._updates[-1] = moved / count / weights
        self._before = None

    def _updates_taken(self) -> int:
        return int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))

    def _last_update(self) -> np.ndarray:
        for row in reversed(self._updates):
            if np.isfinite(row).any():
                return row
        return np.full(len(self.layers), np.nan)

    def _check_measured(self) -> None:
        if not self._measured:
            raise ValueError(
                "GradientMonitor has measured nothing yet. Pass it to `fit` first: "
                "`model.fit(..., callbacks=[monitor])`."
            )
