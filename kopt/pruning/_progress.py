"""How far pruning has come, beside what its schedule asks for in the end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kopt.pruning._group import MaskGroup


def target(group: MaskGroup) -> float:
    """The sparsity that a group is asked for in the end.

    A schedule of the user's own that does not say where it ends is asked for now.
    """
    fixed = getattr(group.pattern, "sparsity_m_by_n", None)
    if fixed is not None:
        return float(fixed[0] / fixed[1])
    end = getattr(group.schedule, "end_step", -1)
    return float(group.schedule(end if end > 0 else next_step(group))[1])


def final_step(group: MaskGroup) -> int | None:
    """The first step with the last sparsity of a schedule, from 1.

    `None` for a schedule of the user's own that does not say where it ends.
    """
    if not group.pattern.is_scheduled:
        return 1
    known = getattr(group.schedule, "final_step", None)
    if known is None:
        end = getattr(group.schedule, "end_step", -1)
        return end if end > 0 else None
    return int(known)


def next_step(group: MaskGroup) -> int:
    """The training step that comes next, from 1."""
    return int(group.step.numpy())


def has_ended(group: MaskGroup) -> bool:
    """Whether the masks are as sparse as they will be."""
    end = final_step(group)
    return end is None or next_step(group) >= end


def waiting(groups: Sequence[MaskGroup]) -> str | None:
    """What to say of a model in which nothing is pruned so far, else `None`."""
    if any(_masked(group) for group in groups):
        return None
    unmet = [group for group in groups if target(group) > 0 and not has_ended(group)]
    if not unmet:
        return None
    group = min(unmet, key=lambda one: final_step(one) or 0)
    first = getattr(group.schedule, "first_step", 0)
    begins = f", and its first pruning is at step {first}"
    if first < next_step(group):
        begins = ""
    return (
        f"Nothing is pruned yet: {target(group):.0%} zeros are asked for, the schedule "
        f"has seen {next_step(group) - 1} steps{begins}. Train for more steps, or "
        "choose another `begin_step` or `frequency` (in steps; `in_epochs` counts "
        "epochs), or prune at once with `kopt.pruning.OneShot`."
    )


def refilled(groups: Sequence[MaskGroup]) -> str | None:
    """What to say of weights that are not zero where the masks are, else `None`.

    That is so when earlier weights were put back, from before they were pruned.
    """
    held = filled = size = 0
    for group in groups:
        for member in group.members:
            mask = member.mask.numpy()
            values = np.asarray(member.variable.numpy())
            held += int((~mask).sum())
            filled += int(np.count_nonzero(values[~mask]))
            size += mask.size
    if not filled:
        return None
    asked = max(target(group) for group in groups)
    return (
        f"Weights from before they were pruned are back: {(held - filled) / size:.0%} "
        f"of the pruned kernels are zero where the masks have {held / size:.0%} and "
        f"the schedule asks for {asked:.0%}. A best epoch that is restored "
        "(`restore_best_weights`) is one of these if it lies before the schedule's "
        "end. Wrap the callback in `kopt.pruning.BestAfterPruning`, so that only "
        "epochs count that are as sparse as was asked."
    )


def unfinished(groups: Sequence[MaskGroup]) -> str | None:
    """What to say of masks that are to become sparser still, else `None`."""
    ahead = [group for group in groups if not has_ended(group)]
    if not ahead:
        return None
    group = max(ahead, key=lambda one: final_step(one) or 0)
    return (
        f"Pruning is not at its end: {target(group):.0%} zeros are asked for at step "
        f"{final_step(group)}, and the next step is {next_step(group)}. The kernels "
        f"keep the zeros that they have, {1 - _kept_share(group):.0%}."
    )


def _kept_share(group: MaskGroup) -> float:
    masks = [member.mask.numpy() for member in group.members]
    return float(sum(mask.sum() for mask in masks) / sum(mask.size for mask in masks))


def _masked(group: MaskGroup) -> bool:
    return not all(member.mask.numpy().all() for member in group.members)
