from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import keras

from kopt import _checks
from kopt._keras.compiled import forget_compiled_functions
from kopt._registry import register
from kopt.pruning._carrier import carry
from kopt.pruning._criterion import Criterion, Magnitude
from kopt.pruning._group import MaskConstraint, MaskGroup, Schedule
from kopt.pruning._layout import kernel_layout
from kopt.pruning._pattern import Pattern
from kopt.pruning._schedule import Ramp, checked_sparsity
from kopt.pruning._structure import STRUCTURES, structured_members
from kopt.pruning._weights import (
    PruningPolicy,
    Selection,
    layers_of_weights,
    prunable_weights,
)
from kopt.pruning.constant_sparsity import ConstantSparsity
from kopt.pruning.movement import Movement
from kopt.pruning.polynomial_decay import PolynomialDecay

Model = TypeVar("Model", bound=keras.Model)

SCOPES = ("local", "global")
CRITERIA: dict[str, Callable[[], Criterion]] = {
    "magnitude": Magnitude,
    "movement": Movement,
}


@register("pruning", serializable=False)
def prune_low_magnitude(
    model: Model,
    pruning_schedule: Schedule | None = None,
    block_size: tuple[int, int] = (1, 1),
    block_pooling_type: str = "AVG",
    sparsity_m_by_n: tuple[int, int] | None = None,
    pruning_policy: PruningPolicy | None = None,
    scope: str = "local",
    criterion: str | Criterion = "magnitude",
    layers: Selection | None = None,
    *,
    structure: str | None = None,
) -> Model:
    """Prune the smallest weights of a model while it trains.

    The model stays the model it was: compile it (again) and train it in any loop. Steps
    of `fit` that were compiled before are compiled again, those of models around it
    too; a `tf.function` of your own you have to make again. After each update the
    optimizer puts the pruned weights back to zero; at the steps that the schedule
    names, the weights to prune are chosen anew, so that one that was pruned can come
    back. `.keras` and weights files keep the masks and the step.

    All trainable kernels and embeddings are pruned, at whatever depth: of dense,
    convolution, attention, recurrent and your own layers. Frozen layers are left as
    they are. A constraint that a weight already has stays in force. Call it again with
    other `layers` to prune them by another schedule.

    Args:
        model: A built Keras 3 model. It is changed in place.
        pruning_schedule: `PolynomialDecay`, `CosineDecay`, `ConstantSparsity`, one of
            TensorFlow Model Optimization's schedules, or a callable from a step to
            `(should_prune, sparsity)`. Its `in_epochs` counts epochs, not steps.
            Defaults to `ConstantSparsity(0.5, 0)`.
        block_size: Inputs and outputs to a block of weights that stay or go together.
            `(4, 1)` is four inputs of one output. Each place of a convolution's window
            is a matrix of its own. Defaults to single weights.
        block_pooling_type: `"AVG"` or `"MAX"`: how a block's magnitudes become one.
        sparsity_m_by_n: `(m, n)` prunes m of every n consecutive inputs at once, and
            keeps to that choice; the schedule is not asked. Defaults to `None`.
        pruning_policy: An object whose `allow_pruning(layer)` says which layers are
            pruned.
        scope: `"local"` brings each weight to the sparsity of the schedule;
            `"global"` all of them together, those with larger weights less.
        criterion: What makes a weight worth keeping: `"magnitude"`; `"movement"`, where
            training moves it (`Movement`); or a `Gradient(x, y, loss)`, what the loss
            would lose with it.
        layers: The layers to prune, with all inside them: layers, or regular
            expressions for whole names or paths. Or a function from a layer to a bool.
        structure: `"filters"` prunes whole filters and units of a functional or
            sequential model, with their biases and what normalizes them: channels
            that are added together as one, those of the model's outputs not at all.
            `"heads"` prunes attention heads. The schedule's sparsity is then the
            share of filters or heads, the smallest by root mean square; one of each
            layer stays. One that was pruned seldom comes back, as no gradient reaches
            it. `kopt.pruning.remove_filters` takes them out. Defaults to `None`: single
            weights, blocks or m of n.

    Returns:
        `model` itself.

    Raises:
        TypeError: If `model` is not a Keras 3 model.
        ValueError: If it is not built, has NaN weights, has nothing to prune, or has
            been pruned there already; if a block does not fit a kernel.

    References:
        Zhu & Gupta, 2017, "To prune, or not to prune: exploring the efficacy of
        pruning for model compression", arXiv:1710.01878.
        Mishra et al., 2021, "Accelerating Sparse Deep Neural Networks" (m of n),
        arXiv:2104.08378.

    Example:

    >>> model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(10)])
    >>> schedule = kopt.pruning.ConstantSparsity(0.75, begin_step=1)
    >>> model = kopt.pruning.prune_low_magnitude(model, schedule)
    >>> model.compile("adam", "mse")
    >>> history = model.fit(np.ones((8, 20)), np.ones((8, 10)), verbose=0)
    >>> kopt.pruning.sparsity_report(model).sparsity
    0.75
    """
    _checks.finite_weights("model", _checks.keras_model("model", model))
    _checks.no_adapters("model", model)
    _checks.one_of("scope", scope, SCOPES)
    schedule = _checked_schedule(pruning_schedule)
    pattern = Pattern(block_size, block_pooling_type, sparsity_m_by_n)
    criterion = _checked_criterion(criterion)
    criterion.check(pattern, schedule)
    if scope == "global" and not pattern.is_scheduled:
        raise ValueError(
            "`sparsity_m_by_n` gives every weight the same sparsity, so `scope` must "
            f"be 'local'. Received: sparsity_m_by_n={sparsity_m_by_n}, scope={scope!r}."
        )
    criterion.bind(model)
    shared = scope == "global"
    if structure is None:
        members = _members(model, layers, pruning_policy, pattern)
        apart = not (shared or criterion.scores_together)
        parts = [[member] for member in members] if apart else [members]
        groups = [
            MaskGroup(part, schedule, pattern, criterion, shared) for part in parts
        ]
    else:
        _checked_structure(structure, pattern, criterion)
        members, units = structured_members(
            model, structure, layers, pruning_policy, is_shared=shared
        )
        groups = [MaskGroup(members, schedule, units, criterion)]
    carry(model).groups += groups
    for group in groups:
        group.start()
    # A training step that was compiled before does not know the masks.
    forget_compiled_functions(model)
    return model


def _checked_structure(structure: str, pattern: Pattern, criterion: Criterion) -> None:
    _checks.one_of("structure", structure, STRUCTURES)
    if criterion.signed:
        raise ValueError(
            f"The criterion {type(criterion).__name__} scores single weights or "
            f"blocks, not structure={structure!r}. Use 'magnitude', or a "
            "kopt.pruning.Gradient(x, y, loss)."
        )
    if pattern != Pattern():
        raise ValueError(
            "`structure` prunes whole filters or heads, which have no blocks or groups "
            "inside: leave out `block_size`, `block_pooling_type` and "
            f"`sparsity_m_by_n`. Received: structure={structure!r}, {pattern}."
        )


def _members(
    model: keras.Model,
    layers: Selection | None,
    policy: PruningPolicy | None,
    pattern: Pattern,
) -> list[MaskConstraint]:
    variables = prunable_weights(model, layers, policy)
    again = [v.path for v in variables if isinstance(v.constraint, MaskConstraint)]
    if again:
        raise ValueError(
            f"These weights are pruned already: {', '.join(again)}. Choose others with "
            "`layers`, or call `kopt.pruning.strip_pruning(model)` first."
        )
    owners = layers_of_weights(model)
    layouts = [kernel_layout(owners[id(v)], v.shape, v.name) for v in variables]
    unfit = [
        f"{variable.path} {tuple(variable.shape)}"
        for variable, layout in zip(variables, layouts, strict=True)
        if not pattern.fits(layout)
    ]
    if unfit:
        raise ValueError(
            "`block_size` must divide the inputs and outputs of every pruned kernel. "
            f"Received: block_size={pattern.block_size}, which does not fit "
            f"{', '.join(unfit)}. Leave these out with `layers`, or prune them by a "
            "call of their own."
        )
    return [MaskConstraint(*pair) for pair in zip(variables, layouts, strict=True)]


def _checked_criterion(criterion: Any) -> Criterion:
    if isinstance(criterion, Criterion):
        return criterion
    if criterion == "gradient":
        raise ValueError(
            "The criterion 'gradient' needs samples and a loss: "
            "criterion=kopt.pruning.Gradient(x, y, loss)."
        )
    hint = "Or pass a kopt.pruning.Gradient(x, y, loss)."
    return CRITERIA[_checks.one_of("criterion", criterion, tuple(CRITERIA), hint)]()


def _checked_schedule(schedule: Any) -> Schedule:
    if schedule is None:
        return ConstantSparsity(0.5, begin_step=0)
    twins = {kind.__name__: kind for kind in (ConstantSparsity, PolynomialDecay)}
    module, name = type(schedule).__module__, type(schedule).__name__
    if module.startswith("tensorflow_model_optimization.") and name in twins:
        # The same curve, which loads from a file without that package.
        return twins[name](**schedule.get_config()["config"])
    accepted = (
        "a PolynomialDecay, a ConstantSparsity, or a callable from a step to "
        "(should_prune, sparsity)"
    )
    if not callable(schedule):
        raise TypeError(
            f"`pruning_schedule` must be {accepted}. Received: {schedule!r}."
        )
    try:
        _, sparsity = schedule(1)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`pruning_schedule` must be {accepted}. Calling it with step 1 failed: "
            f"{error}"
        ) from error
    checked_sparsity("pruning_schedule(1)[1]", float(sparsity))
    if isinstance(schedule, Ramp):
        _warn_if_short(schedule)
    return schedule


def _warn_if_short(schedule: Ramp) -> None:
    """Say where the last renewal of the masks comes well before the end."""
    last = schedule.final_step
    reached = float(schedule.sparsity(last)) if last >= 1 else 0.0
    if schedule.final_sparsity - reached < 0.01:
        return
    when = f"is at step {last}" if last >= 1 else "would be at step 0, before training"
    warnings.warn(
        f"{type(schedule).__name__} asks for {schedule.final_sparsity:.0%} zeros at "
        f"step {schedule.end_step}, but its last pruning {when}, and brings "
        f"{reached:.0%}. Choose a `frequency` that divides end_step - begin_step = "
        f"{schedule.end_step - schedule.begin_step}.",
        stacklevel=4,
    )
