"""Muon."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import keras
from keras import ops

from kopt import _checks
from kopt._kernels.axes import KernelAxes, axes_of
from kopt._kernels.folding import Folding
from kopt._registry import register
from kopt.optimizers._base import CommonOptions, Optimizer
from kopt.optimizers._descent import Step
from kopt.optimizers._newton_schulz import orthogonalized
from kopt.optimizers.adam import moments, one_minus_power
from kopt.optimizers.param_group import matching

#: Weights of these names multiply activations; others of rank 3 and more, of layers
#: that nothing is known of, may be anything.
_MATRICES = ("kernel", "recurrent_kernel", "pointwise_kernel")


@register("optimizers")
class Muon(Optimizer):
    """Muon: momentum whose matrices are made orthogonal; AdamW for everything else.

    For hidden layers of any size, where it needs fewer steps than AdamW and half the
    state. Each kernel is seen as one matrix from its inputs to its outputs; all
    directions of that matrix then move by the same amount:

        m = momentum m + g
        w = w - learning_rate scale orthogonalized(g + momentum m)
        scale = 0.2 sqrt(max(rows, columns))

    The singular values of an orthogonalized matrix come near 1 by `ns_steps` steps of
    a quintic Newton-Schulz iteration. With the factor, updates have the size of
    AdamW's, and AdamW's learning rate and weight decay serve.

    The layer that a kernel belongs to says which of its axes are inputs. A convolution
    is one matrix from (window, inputs) to outputs, transposed ones too; a projection of
    attention is one for all heads; a recurrent kernel is one for all gates. AdamW takes
    over for biases, scales and other variables below rank 2, for embeddings, for
    kernels whose channels stay apart (depthwise ones, `EinsumDense` with a letter in
    both operands and the output), for the head, that is the last kernel, and for what
    `exclude_layers` names. In layers outside of Keras the outputs are on the last axis
    of `"kernel"`, `"recurrent_kernel"` and `"pointwise_kernel"`, unless the layer's
    `kernel_axes` says something else; a variable of a name of its own is a matrix if it
    has rank 2.

    Arguments and defaults are those of `keras.optimizers.Muon`, which leaves kernels
    of convolutions and attention to AdamW and gives the head to Muon.

    Args:
        learning_rate: A number, a schedule or a function without arguments. Defaults
            to `0.001`.
        adam_beta_1: Decay of AdamW's first moment, in [0, 1). Defaults to `0.9`.
        adam_beta_2: Decay of AdamW's second moment, in [0, 1). Defaults to `0.999`.
        adam_weight_decay: Weight decay of the variables that AdamW has, or `None`.
            Defaults to `0.004`.
        epsilon: Added to the root of AdamW's second moment. Defaults to `1e-7`.
        weight_decay: Weight decay of the variables that Muon has, or `None`. Defaults
            to `0.004`.
        exclude_layers: What AdamW has besides: a list of regular expressions that are
            searched for in paths, layers, variables, or functions of a variable.
        exclude_embeddings: Leave embeddings to AdamW. Defaults to `True`.
        muon_a: First coefficient of the iteration. Defaults to `3.4445`.
        muon_b: Second coefficient. Defaults to `-4.7750`.
        muon_c: Third coefficient. Defaults to `2.0315`.
        adam_lr_ratio: AdamW's learning rate as a multiple of Muon's. Defaults to `1`.
        momentum: Decay of the momentum, in [0, 1). Defaults to `0.95`.
        ns_steps: Steps of the iteration, from 1. Defaults to `5`.
        nesterov: Look ahead by the present gradient. Defaults to `True`.
        rms_rate: Root mean square of an update's elements in units of the learning
            rate (Liu et al.). `None` gives Jordan's factor,
            `sqrt(max(1, outputs / inputs))`, for learning rates near 0.02. Defaults
            to `0.2`.
        exclude_head: Leave the last kernel to AdamW. Defaults to `True`.
        input_axes: For kernels whose input axes are others than their layer says: what
            to match (as in `exclude_layers`) to a tuple of input axes.
        ns_dtype: Dtype of the iteration's products, `None` for that of the arithmetic.
            `"auto"` is the same, but for float32 matrices of at least 512 rows and
            columns on hardware that multiplies bfloat16: there the polynomials of the
            first two of five steps are rounded to it, which spares a tenth of the
            time and turns an update by about 0.1 % at most. The authors run
            everything in `"bfloat16"`, up to twice as fast, which turns it by some
            percent, and by more if its rank is low. Defaults to `"auto"`.
        name: Name of the optimizer. Defaults to `"muon"`.
        **options: The options of every kopt optimizer, see `kopt.optimizers.Optimizer`.

    Raises:
        ValueError: For a number outside its range, axes that a kernel does not have, or
            a match that finds no variable.

    References:
        Jordan et al., 2024, "Muon: An optimizer for hidden layers in neural networks",
        https://kellerjordan.github.io/posts/muon/.
        Liu et al., 2025, "Muon is Scalable for LLM Training", arXiv:2502.16982.

    Example:

    >>> weight = keras.Variable(np.zeros((2, 2)), name="kernel")
    >>> optimizer = kopt.Muon(learning_rate=1.0, exclude_head=False, rms_rate=None)
    >>> gradient = keras.ops.convert_to_tensor([[100.0, 0.0], [0.0, 1.0]])
    >>> optimizer.apply([gradient], [weight])
    >>> print(abs(weight.numpy()).round(1))  # both directions move alike
    [[0.7 0. ]
     [0.  0.7]]
    """

    elementwise = False
    measures = True
    movable = ("momentum", "adam_weight_decay")
    may_move = ("adam_beta_1",)

    def __init__(
        self,
        learning_rate: Any = 0.001,
        adam_beta_1: float = 0.9,
        adam_beta_2: float = 0.999,
        adam_weight_decay: float | None = 0.004,
        epsilon: float = 1e-7,
        weight_decay: float | None = 0.004,
        exclude_layers: Sequence[Any] | None = None,
        exclude_embeddings: bool = True,
        muon_a: float = 3.4445,
        muon_b: float = -4.7750,
        muon_c: float = 2.0315,
        adam_lr_ratio: float = 1.0,
        momentum: float = 0.95,
        ns_steps: int = 5,
        nesterov: bool = True,
        rms_rate: float | None = 0.2,
        exclude_head: bool = True,
        input_axes: Mapping[Any, Sequence[int]] | None = None,
        ns_dtype: str | None = "auto",
        name: str = "muon",
        **options: Unpack[CommonOptions],
    ) -> None:
        super().__init__(learning_rate, name=name, weight_decay=weight_decay, **options)
        self.adam_beta_1 = _share("adam_beta_1", adam_beta_1)
        self.adam_beta_2 = _share("adam_beta_2", adam_beta_2)
        self.momentum = _share("momentum", momentum)
        if adam_weight_decay is not None:
            _checks.number("adam_weight_decay", adam_weight_decay, low=0)
        if rms_rate is not None:
            _checks.number("rms_rate", rms_rate, low=0, low_open=True)
        self.adam_weight_decay = adam_weight_decay
        self.epsilon = _checks.number("epsilon", epsilon, low=0)
        self.exclude_layers = list(exclude_layers or [])
        self.exclude_embeddings = bool(exclude_embeddings)
        self.muon_a = _checks.number("muon_a", muon_a)
        self.muon_b = _checks.number("muon_b", muon_b)
        self.muon_c = _checks.number("muon_c", muon_c)
        self.adam_lr_ratio = _checks.number("adam_lr_ratio", adam_lr_ratio, low=0)
        self.ns_steps = _checks.integer("ns_steps", ns_steps, low=1)
        self.nesterov = bool(nesterov)
        self.rms_rate = rms_rate
        self.exclude_head = bool(exclude_head)
        self.input_axes = {k: tuple(v) for k, v in (input_axes or {}).items()}
        self.ns_dtype = _checks.one_of(
            "ns_dtype", ns_dtype, ("auto", None, "bfloat16", "float32", "float64")
        )
        self._axes: dict[int, tuple[int, ...]] = {}

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if variables and not self.built:
            self._choose(list(variables))
        super().build(variables)

    def slots(self, variable: Any) -> dict[str, float]:
        velocity = {} if id(variable) in self._axes else {"velocity": 0.0}
        return {"momentum": 0.0, **velocity}

    def traits(self, variable: Any) -> tuple[int, ...] | None:
        """The axes that a matrix's inputs lie on, or `None` for AdamW."""
        return self._axes.get(id(variable))

    def decay_name(self, variable: Any) -> str:
        return "weight_decay" if id(variable) in self._axes else "adam_weight_decay"

    def once_per_step(
        self, step: Step, gradients: Any, variables: Any, states: Any
    ) -> dict[str, Any]:
        beta_1 = self.present("adam_beta_1", step)
        correction_1 = one_minus_power(beta_1, step.number)
        correction_2 = one_minus_power(self.adam_beta_2, step.number)
        ratio = self.adam_lr_ratio
        return {"correction": ratio * ops.sqrt(correction_2) / correction_1}

    def measure(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> dict[str, Any]:
        if step.traits is None:
            return {}
        momentum = step.shared["momentum"]
        m = momentum * state["momentum"] + gradient
        ahead = gradient + momentum * m if self.nesterov else m
        return {"direction": self._orthogonal(ahead, step.traits), "momentum": m}

    def update(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> tuple[Any, dict[str, Any]]:
        if step.traits is None:
            return self._adam(gradient, state, step)
        return step.measured["direction"], {"momentum": step.measured["momentum"]}

    def _orthogonal(self, direction: Any, axes: tuple[int, ...]) -> Any:
        """The direction as a matrix, orthogonalized, scaled and brought back."""
        shape = tuple(direction.shape)
        outputs = tuple(axis for axis in range(len(shape)) if axis not in axes)
        folding = Folding(shape, (axes, outputs))
        rows, columns = folding.sizes
        matrix = orthogonalized(
            folding.fold(direction),
            (self.muon_a, self.muon_b, self.muon_c),
            self.ns_steps,
            dtype=self.ns_dtype,
        )
        if self.rms_rate is None:
            scale = math.sqrt(max(1.0, columns / rows))
        else:
            scale = self.rms_rate * math.sqrt(max(rows, columns))
        return folding.unfold(scale * matrix)

    def _adam(
        self, gradient: Any, state: dict[str, Any], step: Step
    ) -> tuple[Any, dict[str, Any]]:
        beta_1 = self.present("adam_beta_1", step)
        new = moments(gradient, state, beta_1, self.adam_beta_2)
        m = step.shared["correction"] * new["momentum"]
        return m / (ops.sqrt(new["velocity"]) + self.epsilon), new

    def _choose(self, variables: list[keras.Variable]) -> None:
        """Settle which variables are matrices; rules become positions, to be saved."""
        declared = {
            index: axes
            for match, axes in self.input_axes.items()
            for index in _positions(match, variables)
        }
        excluded = {
            index
            for match in self.exclude_layers
            for index in _positions(match, variables)
        }
        known = self._known_matrices(variables)
        matrices = sorted({*known, *declared})
        if self.exclude_head and matrices and matrices[-1] not in declared:
            excluded.add(matrices[-1])
        chosen = [index for index in matrices if index not in excluded]
        # What is declared comes before what the layers say.
        inputs = {**known, **declared}
        axes = {i: _checked_axes(variables[i], inputs[i]) for i in chosen}
        self._axes = {id(variables[index]): axes[index] for index in chosen}
        # A loaded optimizer has the same matrices, whatever the layers are called.
        self.exclude_layers = sorted(set(range(len(variables))) - set(chosen))
        self.input_axes = {index: axes[index] for index in chosen}

    def _known_matrices(
        self, variables: list[keras.Variable]
    ) -> dict[int, tuple[int, ...]]:
        """The input axes of the kernels that are one matrix, by position."""
        found = {}
        kernels = axes_of(variables)
        for index, (variable, axes) in enumerate(zip(variables, kernels, strict=True)):
            if axes is not None and self._is_matrix(variable, axes):
                outside = (*axes.rows, *axes.inputs, *axes.window)
                found[index] = tuple(sorted(outside))
        return found

    def _is_matrix(self, variable: keras.Variable, axes: KernelAxes) -> bool:
        if axes.rows and self.exclude_embeddings:
            return False
        has_sides = axes.outputs and (axes.inputs or axes.rows)
        if axes.channels or not has_sides:
            return False
        return axes.rank == 2 or axes.is_known or variable.name in _MATRICES

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        # JSON has no other keys than strings.
        config["input_axes"] = [[k, list(v)] for k, v in self.input_axes.items()]
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Muon:
        axes = {key: tuple(value) for key, value in config.get("input_axes") or []}
        return super().from_config({**config, "input_axes": axes}, custom_objects)


def _share(name: str, value: float) -> float:
    return _checks.number(name, value, low=0, high=1, high_open=True)


def _positions(match: Any, variables: list[keras.Variable]) -> list[int]:
    found = [match] if isinstance(match, int) else matching(match, variables)
    if not found:
        paths = ", ".join(variable.path for variable in variables)
        raise ValueError(
            f"{match!r} finds no variable, in `exclude_layers` or `input_axes`. The "
            f"variables are: {paths}."
        )
    return found


def _checked_axes(variable: keras.Variable, axes: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of a kernel that hold inputs, counted from the front."""
    rank = len(variable.shape)
    found = tuple(axis % rank for axis in axes if -rank <= axis < rank)
    if len(set(found)) != len(axes) or not 0 < len(found) < rank:
        raise ValueError(
            f"`input_axes` of {variable.path!r} must name some of the axes of its "
            f"shape {tuple(variable.shape)} and leave one. Received: {axes}."
        )
    return found
