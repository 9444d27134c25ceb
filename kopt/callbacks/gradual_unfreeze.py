from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import keras

from kopt import _checks
from kopt._keras.fit_length import fit_length
from kopt._registry import register
from kopt.callbacks import _stages, _targets
from kopt.optimizers import ParamGroup


@register("callbacks", serializable=False)
class GradualUnfreeze(keras.callbacks.Callback):
    """Fine-tune a model part by part: hold parts still, and thaw one after the other.

    When training begins all stages are frozen, and what no stage names (the new head)
    trains alone. Then the first stage is thawed, some epochs later the second, and so
    on. Name the parts that are nearest to the output first.

    A stage is

    - a `kopt.ParamGroup` of the kopt optimizer that the model is compiled with.
      Nothing is traced again, and moments, statistics and dropout go on as ever.
    - or layers, with any optimizer. Their `trainable` is switched, so backward passes
      end where nothing is left to train, and batch normalization inside uses its
      moving statistics and leaves them alone. The training step is traced again at
      each stage. The optimizer has to know their weights: it must not have trained
      before while they were frozen.

    What is still frozen when `fit` ends stays frozen. Each `fit` begins at the first
    epoch of the run, but where `initial_epoch` says another one.

    Args:
        stages: What to thaw, in this order. Of each a `kopt.ParamGroup`, a layer, the
            name of layers (with wildcards: `"block1_*"`), or a list of layers and
            names.
        every: How many epochs lie between two stages, and before the first: a whole
            number from 1, or a float in (0, 1), a fraction of the run. Defaults to `1`.
        epochs: Length of the run in epochs, over all calls of `fit`. Defaults to that
            of the present `fit`.

    Attributes:
        thaws_at: The epoch that each stage is thawed before, counted from 0, once
            training has begun.

    Raises:
        ValueError: If an argument is out of its range. When training begins, if the
            run ends before the last stage, a group or a layer is not the model's, no
            layer is left to train, or the optimizer was built while layers of a stage
            were frozen.

    Reference:
        Howard and Ruder, 2018, Universal Language Model Fine-tuning for Text
        Classification, [arXiv:1801.06146](https://arxiv.org/abs/1801.06146), section
        3.3.

    Example:

    >>> layers = [keras.layers.Dense(3, name=name) for name in ("low", "high", "head")]
    >>> model = keras.Sequential([keras.Input((2,)), *layers])
    >>> groups = [kopt.ParamGroup("high"), kopt.ParamGroup("low")]
    >>> model.compile(kopt.Adam(param_groups=groups), "mse")
    >>> for epochs in (1, 2, 3):
    ...     before = model.get_weights()
    ...     thaw = kopt.callbacks.GradualUnfreeze(groups, epochs=3)
    ...     _ = model.fit(np.ones((4, 2)), np.ones((4, 3)), verbose=0,
    ...         epochs=epochs, initial_epoch=epochs - 1, callbacks=[thaw])
    ...     print([bool((old != new).any()) for old, new in
    ...            zip(before[::2], model.get_weights()[::2])])
    [False, False, True]
    [False, True, True]
    [True, True, True]
    """

    #: Beside a sweep of the learning rate it would leave layers frozen.
    changes_model = True
    #: Stages of layers have the training step traced again.
    retraces = True

    def __init__(
        self,
        stages: Sequence[_stages.Given],
        every: int | float = 1,
        epochs: int | None = None,
    ):
        super().__init__()
        self.stages = _checked_stages(stages)
        if isinstance(every, numbers.Integral):
            self.every: int | float = _checks.integer("every", every, low=1)
        else:
            self.every = _checks.number(
                "every",
                every,
                low=0.0,
                high=1.0,
                low_open=True,
                high_open=True,
                hint="A float is a fraction of the run. Write every=2 for two epochs.",
            )
        self.epochs = (
            None if epochs is None else _checks.integer("epochs", epochs, low=1)
        )
        self.thaws_at: list[int] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.thaws_at = self._planned()
        found = [_stages.stage_of(self.model, given) for given in self.stages]
        with_layers = [one for one in found if isinstance(one, _stages.LayerStage)]
        # The optimizer has to know all weights that are going to train.
        for stage in with_layers:
            stage.make_trainable()
        _targets.build(self.model)
        for stage in with_layers:
            stage.check_known()
        for one in found:
            one.freeze()
        if not self.model.trainable_variables:
            for stage in with_layers:
                stage.thaw()
            raise ValueError(
                "`stages` names all layers that have weights, so nothing would train "
                f"before epoch {self.thaws_at[0]}. Leave out the one that is to train "
                "from the beginning, a new head."
            )
        self._waiting = list(zip(self.thaws_at, found, strict=True))

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        while self._waiting and self._waiting[0][0] <= epoch:
            _, stage = self._waiting.pop(0)
            stage.thaw()

    def get_state(self) -> dict[str, Any]:
        """The plan of the run; the place in it is the number of the epoch."""
        return {"thaws_at": self.thaws_at}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on in a run of the same plan.

        Raises:
            ValueError: If the plan is another one.
        """
        if list(state["thaws_at"]) != self.thaws_at:
            raise ValueError(
                f"The stages were thawed before epochs {state['thaws_at']}, and are "
                f"now before {self.thaws_at}. Pass the same `stages` and `every`, and "
                "fit the same `epochs`."
            )

    @classmethod
    def examples(cls) -> tuple[GradualUnfreeze, ...]:
        """Ready callbacks, as the conformance tests use them."""
        return (cls(["dropout*"]),)

    def _planned(self) -> list[int]:
        epochs = self.epochs or fit_length(self)[1]
        if epochs is None:
            raise ValueError(
                "GradualUnfreeze does not know how many epochs the run has. Say so: "
                f"GradualUnfreeze(..., every={self.every}, epochs=10)."
            )
        every = self.every
        if isinstance(every, float):
            begins = [
                round(every * (place + 1) * epochs) for place in range(len(self.stages))
            ]
        else:
            begins = [every * (place + 1) for place in range(len(self.stages))]
        if begins[-1] >= epochs:
            raise ValueError(
                f"The last of {len(self.stages)} stages would be thawed before epoch "
                f"{begins[-1]}, counted from 0, and the run has {epochs} epochs. "
                f"Received: every={every}. Give fit more epochs or GradualUnfreeze a "
                "smaller `every`; if the run goes on in later calls of fit, say how "
                "long it is: epochs=20."
            )
        return begins


def _checked_stages(stages: Any) -> list[_stages.Given]:
    kinds = (ParamGroup, keras.Layer, str)
    hint = "Write stages=['block5_*', 'block4_*'], or a list of kopt.ParamGroups."
    if isinstance(stages, kinds) or not isinstance(stages, Sequence) or not stages:
        raise TypeError(
            f"`stages` must be a list of what to thaw, in order. Received: "
            f"stages={stages!r}. {hint}"
        )
    for stage in stages:
        inside = [stage] if isinstance(stage, kinds) else stage
        nested = isinstance(inside, (list, tuple)) and inside
        plain = kinds if isinstance(stage, kinds) else kinds[1:]
        if not nested or not all(isinstance(one, plain) for one in inside):
            raise TypeError(
                "Each of `stages` must be a ParamGroup, a layer, the name of layers, "
                f"or a list of layers and names. Received: {stage!r}. {hint}"
            )
    return list(stages)
