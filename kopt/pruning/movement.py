from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keras import ops

from kopt._registry import register
from kopt.pruning._criterion import Criterion
from kopt.pruning._pattern import Pattern

if TYPE_CHECKING:
    from kopt.pruning._group import MaskConstraint

Tensor = Any


@register("pruning")
class Movement(Criterion):
    """Keep the weights that training moves away from zero, and drop those that shrink.

    What counts is where a weight is going, not how large it was when training began:
    for fine-tuning a pretrained model to high sparsity this beats magnitude. Each
    update adds to a weight's score `weight * change`, with the weight as it would be
    without its mask. A pruned weight goes on moving unseen, by the gradient at zero,
    and comes back with the value that it has then.

        score = score + weight (new_weight - weight)

    With plain SGD at a constant rate these are the paper's scores, `-weight gradient`
    summed up; with another optimizer its steps take the place of the gradient, and
    weight decay counts as movement too. Keeps two float32 numbers a weight.

    References:
        Sanh, Wolf & Rush, 2020, "Movement Pruning: Adaptive Sparsity by Fine-Tuning",
        arXiv:2005.07683 (hard movement pruning).

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.set_weights([np.array([[3.0], [0.1]]), np.zeros(1)])
    >>> schedule = kopt.pruning.OneShot(0.5, step=3)
    >>> model = kopt.pruning.prune_low_magnitude(
    ...     model, schedule, criterion=kopt.pruning.Movement())
    >>> model.compile(keras.optimizers.SGD(0.1), "mse")
    >>> x = np.eye(2)  # the first weight has to shrink, the second to grow
    >>> history = model.fit(x, np.array([1.0, 1.0]), epochs=2, verbose=0)
    >>> model.get_weights()[0].ravel() != 0
    array([False,  True])
    """

    signed = True

    def check(self, pattern: Pattern, schedule: Any) -> None:
        if not pattern.is_scheduled:
            raise ValueError(
                "`sparsity_m_by_n` chooses the weights before training, when none has "
                "moved. Leave the criterion at 'magnitude', or choose blocks."
            )
        due, sparsity = schedule(1)
        if bool(due) and float(sparsity) > 0:
            raise ValueError(
                "The criterion 'movement' has seen no weight move when the schedule "
                f"prunes {100 * float(sparsity):.0f} % at step 1. Begin later, "
                "`begin_step=100`, or from a sparsity of 0."
            )

    def memory(self, variable: Any) -> dict[str, Tensor]:
        weights = ops.convert_to_numpy(variable).astype("float32")
        return {"weights": weights, "score": 0.0 * weights}

    def observe(self, member: MaskConstraint, weights: Tensor) -> None:
        new = ops.cast(weights, "float32")
        mask = member.mask.value
        old = ops.convert_to_tensor(member.memory["weights"])
        change = ops.where(mask, new - old, new)
        score = member.memory["score"]
        score.assign(score + old * change)
        # Where it is seen, the weight itself, without rounding.
        member.memory["weights"].assign(ops.where(mask, new, old + new))

    def unmasked(self, member: MaskConstraint, weights: Tensor) -> Tensor:
        return ops.cast(member.memory["weights"], weights.dtype)

    def settle(self, member: MaskConstraint, weights: Tensor) -> None:
        kept = member.memory["weights"]
        new = ops.cast(weights, "float32")
        kept.assign(ops.where(member.mask.value, new, kept))

    def scores(
        self, members: Sequence[MaskConstraint], candidates: Sequence[Tensor]
    ) -> list[Tensor]:
        return [ops.convert_to_tensor(member.memory["score"]) for member in members]
