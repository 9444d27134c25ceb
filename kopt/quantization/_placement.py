"""Where a model is quantized: which weights, and which tensors get a range.

Read from a trace of the model's calls and the table of rules; nothing is changed
here. The aim is that at inference everything between two ranges is one integer
operation. A convolution, the batch normalization and the ReLU behind it become one,
so there is no rounding between them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import Literal

import keras

from kopt._keras.layer_tree import nested_layers
from kopt._rescaling import rescaled
from kopt.quantization._activations import activation_of, softmax_axis
from kopt.quantization._compiled import is_compiled
from kopt.quantization._layer_kinds import (
    is_fused_activation,
    is_linear_with_weights,
    is_sum,
    kind,
    normalizes_channels,
    obstacle,
    pads_nothing,
    role,
    stores_as_computed,
)
from kopt.quantization._layer_quantizer import OUTPUT, input_role
from kopt.quantization._relevant_values import AddedMask, NearLargest
from kopt.quantization._trace import Call, Trace, holder, leaf_layers
from kopt.quantization.ranges import AtMost
from kopt.quantization.rule import FixedRange, Rule, float_class_of, rule_for


@dataclass
class LayerPlan:
    """What one layer gets.

    Attributes:
        layer: The layer.
        weights: Name and channel axes of each weight to quantize.
        inputs: Positions of the inputs that get a range here.
        inner: Names of the ranges inside, each with what the runtime prescribes or
            how far it may go.
        preactivation: Whether the values before its activation get a range.
        output: Whether its outputs get a range.
        fixed_range: The range of the outputs where the runtime prescribes it.
        limits: What data may do to ranges of inputs and outputs, by their role.
        rewritten: Whether it is computed by its rule's `compute`.
        state: How it is computed: in integers, in float, or not at all, when it
            passes on whatever values come.
        note: Why it stays float, or what becomes of it in the integer model.
    """

    layer: keras.Layer
    weights: dict[str, tuple[int, ...]] = field(default_factory=dict)
    inputs: set[int] = field(default_factory=set)
    inner: dict[str, FixedRange | AtMost | None] = field(default_factory=dict)
    preactivation: bool = False
    output: bool = False
    fixed_range: FixedRange | None = None
    limits: dict[str, NearLargest | AddedMask] = field(default_factory=dict)
    rewritten: bool = False
    state: Literal["integer", "passes", "float"] = "integer"
    note: str = ""

    @property
    def changes_layer(self) -> bool:
        """Whether the layer is another one afterwards."""
        return bool(
            self.weights
            or self.inputs
            or self.inner
            or self.preactivation
            or self.output
            # Its range is behind the ReLU that follows, but it is computed otherwise.
            or self.rewritten
        )


def plan(
    model: keras.Model, trace: Trace, stays_float: Set[int] = frozenset()
) -> list[LayerPlan]:
    """A plan for each leaf layer of a model, in the order of the calls.

    Args:
        model: The model.
        trace: The trace of it.
        stays_float: Identities of layers that are not to be quantized.
    """
    placement = _Placement(trace, stays_float)
    untouched = {id(layer) for layer in trace.untouched}
    for layer in leaf_layers(model):
        if id(layer) in untouched:
            placement.let_pass(layer, "hands its input on at inference")
        elif id(layer) not in placement.plans and getattr(layer, "weights", None):
            placement.leave_float(layer, "not called when the model predicts")
    for name, reason in trace.by_hand.items():
        placement.leave_float(holder(model, name), reason)
    return list(placement.plans.values())


class _Placement:
    """Reads a trace call by call and fills in the plans."""

    def __init__(self, trace: Trace, stays_float: Set[int]) -> None:
        self._stays_float = stays_float
        self.plans: dict[int, LayerPlan] = {}
        self._model_outputs = trace.outputs
        self._escaping = trace.escaping
        self._masked = trace.masked
        self._padded = trace.padded
        self._producer: dict[int, Call] = {}
        self._consumers: dict[int, list[Call]] = defaultdict(list)
        self._calls_of: dict[keras.Layer, list[Call]] = defaultdict(list)
        self._on_grid: set[int] = set()
        self._absorbed: set[int] = set()
        self._integer_calls: list[Call] = []
        # The calls after which a layer needs the range of its outputs.
        self._ends: dict[int, list[Call]] = defaultdict(list)
        for call in trace.calls:
            self.plan_of(call.layer)
            self._calls_of[call.layer].append(call)
            self._producer.update(dict.fromkeys(call.outputs, call))
            for _, tensor in call.inputs:
                self._consumers[tensor].append(call)
        self._float_parts = self._parts_of_float_layers(trace.calls)
        for call in trace.calls:
            if id(call) not in self._absorbed:
                self._place(call)
        for call in self._integer_calls:
            self._leave_rounding_to_join(call)
        for call in self._integer_calls:
            for position, tensor in self._inputs_on_grid(call):
                self._put_on_grid(tensor, call, position)
        for layer_id, calls in self._ends.items():
            self.plans[layer_id].output = bool(calls)
        for call in self._integer_calls:
            self._limit_to_what_softmax_reads(call)

    def _inputs_on_grid(self, call: Call) -> list[tuple[int, int]]:
        rule = rule_for(call.layer)
        if rule is None or (rule.masked and id(call.layer) in self._masked):
            return []
        return [
            (position, tensor)
            for position, tensor in call.inputs
            if rule.inputs is None or position in rule.inputs
        ]

    def plan_of(self, layer: keras.Layer) -> LayerPlan:
        return self.plans.setdefault(id(layer), LayerPlan(layer))

    def leave_float(self, layer: keras.Layer, reason: str) -> None:
        self.plan_of(layer).state = "float"
        self.plan_of(layer).note = reason

    def let_pass(self, layer: keras.Layer, reason: str) -> None:
        self.plan_of(layer).state = "passes"
        self.plan_of(layer).note = reason

    def _parts_of_float_layers(self, calls: list[Call]) -> dict[int, str]:
        """Why parts stay float that are called by a layer that does: cells in a loop.

        They are called before it is done, so they come before it.
        """
        parts: dict[int, str] = {}
        for call in calls:
            rule = rule_for(call.layer)
            if rule is None or rule.role != "whole":
                continue
            if id(call.layer) in self._stays_float or obstacle(call, rule):
                reason = f"{call.layer.name} stays float"
                nested = nested_layers(call.layer)
                parts.update(dict.fromkeys(map(id, nested), reason))
        return parts

    def _place(self, call: Call) -> None:
        layer, rule = call.layer, rule_for(call.layer)
        if is_compiled(layer):
            self.leave_float(layer, "its call is a tf.function")
        elif id(layer) in self._float_parts:
            self.leave_float(layer, self._float_parts[id(layer)])
        elif rule is None:
            self.leave_float(layer, f"{float_class_of(layer).__name__} has no rule")
        elif rule.role == "float":
            self._leave_float_with_followers(call, rule.note)
        elif rule.role == "same" and id(layer) not in self._padded:
            self.let_pass(layer, "keeps the range of its input")
        elif id(layer) in self._stays_float:
            self._leave_float_with_followers(call, "chosen to stay float")
        elif self._goes_into_weights(call):
            self.let_pass(layer, "goes into the weights of what follows")
            self.plan_of(layer).inputs.add(call.inputs[0][0])
            self._on_grid.update(call.outputs)
        elif reason := obstacle(call, rule):
            self._leave_float_with_followers(call, reason)
        else:
            self._quantize(call, rule)

    def _goes_into_weights(self, call: Call) -> bool:
        """Whether a rescaling of the model's input costs nothing: a converter folds it.

        Not where what follows pads with zeros, which the offset would move.
        """
        numbers = rescaled(call.layer)
        if numbers is None or len(call.outputs) != 1:
            return False
        (output,), ((_, tensor),) = call.outputs, call.inputs
        consumers = self._consumers[output]
        return (
            tensor not in self._producer
            and output not in self._escaping
            and len(self._calls_of[call.layer]) == 1
            and bool(consumers)
            and all(
                role(one.layer) == "compute"
                and id(one.layer) not in self._stays_float
                and hasattr(one.layer, "kernel")
                and (not numbers.offset or pads_nothing(one.layer))
                for one in consumers
            )
        )

    def _leave_float_with_followers(self, call: Call, reason: str) -> None:
        """Leave float what becomes one operation with a float layer, too."""
        self.leave_float(call.layer, reason)
        last = self._last_of_fused(call)
        while last is not call:
            self.plan_of(last.layer).state = "float"
            last = self._producer[last.inputs[0][1]]

    def _quantize(self, call: Call, rule: Rule) -> None:
        self._integer_calls.append(call)
        layer_plan = self.plan_of(call.layer)
        layer_plan.weights = rule.weights_of(call.layer)
        layer_plan.rewritten = rule.compute is not None
        layer_plan.note = rule.note
        if rule.inner is not None:
            layer_plan.inner = _ranges(rule.inner(call.layer, len(call.inputs)))
        if rule.masked is not None and id(call.layer) in self._masked:
            layer_plan.inner |= _ranges(rule.masked(call.layer, len(call.inputs)))
        if rule.role == "whole":
            self._on_grid.update(call.outputs)
            return
        activation = activation_of(call.layer)
        layer_plan.inner |= _ranges(activation.inner)
        if activation.kind in ("none", "fused"):
            self._end_in_range(self._last_of_fused(call))
            return
        layer_plan.preactivation = rule.role != "activation"
        if activation.kind == "float":
            layer_plan.note = "its activation stays float"
        layer_plan.fixed_range = activation.fixed_range
        if activation.kind == "fixed" and set(call.outputs) & self._model_outputs:
            # Rounding probabilities to 1/256 would stop the gradient of the loss;
            # the logits are rounded instead.
            self._on_grid.update(call.outputs)
            return
        self._end_in_range(call)

    def _end_in_range(self, call: Call) -> None:
        self._ends[id(call.layer)].append(call)
        self._on_grid.update(call.outputs)

    def _last_of_fused(self, call: Call) -> Call:
        """The last of the calls that become one operation with this one."""
        last = call
        for fits, behind in _FUSED_STAGES:
            after = self._follower(last, fits, behind)
            if after is None:
                continue
            self._absorbed.add(id(after))
            self.plan_of(after.layer).note = f"computed together with {call.layer.name}"
            last = after
        return last

    def _follower(self, call: Call, fits: _Fits, behind: _Fits) -> Call | None:
        """The call behind this one, if both become one operation.

        A layer that is called at several places is quantized in one way for all: each
        of its calls has to be followed by such a layer, and each call of the follower
        has to come behind such a one.
        """
        after = self._sole_consumer(call)
        if after is None or not behind(call.layer):
            return None
        if id(after.layer) in self._stays_float:
            return None
        others = [self._sole_consumer(one) for one in self._calls_of[call.layer]]
        before = [
            self._producer.get(one.inputs[0][1]) for one in self._calls_of[after.layer]
        ]
        if all(one and fits(one.layer) for one in others) and all(
            one and behind(one.layer) for one in before
        ):
            return after
        return None

    def _sole_consumer(self, call: Call) -> Call | None:
        if len(call.outputs) != 1 or call.outputs[0] in self._escaping:
            return None
        consumers = self._consumers[call.outputs[0]]
        return consumers[0] if len(consumers) == 1 else None

    def _leave_rounding_to_join(self, call: Call) -> None:
        """Round what goes into a join alone only behind it, to one common range."""
        if role(call.layer) != "join":
            return
        for _, tensor in call.inputs:
            producer = self._producer.get(tensor)
            if producer is None or self.plan_of(producer.layer).fixed_range:
                continue
            if role(producer.layer) in ("join", "same"):
                # Its own inputs have to be on one grid, too.
                continue
            ends = self._ends.get(id(producer.layer), [])
            if producer in ends and self._sole_consumer(producer) is call:
                ends.remove(producer)

    def _put_on_grid(self, tensor: int, consumer: Call, position: int) -> None:
        """See that a tensor has a range: where it comes from, or where it goes in."""
        if tensor in self._on_grid:
            return
        producer = self._producer.get(tensor)
        if producer is None or not self._moves(producer):
            self.plan_of(consumer.layer).inputs.add(position)
            return
        for earlier_position, earlier in producer.inputs:
            self._put_on_grid(earlier, producer, earlier_position)

    def _moves(self, call: Call) -> bool:
        """Whether a call only moves values, which keep their grid."""
        return role(call.layer) == "same" and id(call.layer) not in self._padded

    def _limit_to_what_softmax_reads(self, call: Call) -> None:
        """Keep masks that are added to scores from widening the scores' range."""
        axis = softmax_axis(call.layer)
        if axis is not None:
            self._limit(call, call.inputs[0], NearLargest(axis))

    def _limit(
        self, consumer: Call, entry: tuple[int, int], limit: NearLargest | AddedMask
    ) -> None:
        position, tensor = entry
        self.plan_of(consumer.layer).limits[input_role(position)] = limit
        producer = self._producer.get(tensor)
        alone = producer is not None and self._sole_consumer(producer) is consumer
        if producer is None or not alone or len(self._calls_of[producer.layer]) > 1:
            return
        if self._moves(producer):
            self._limit(producer, producer.inputs[0], limit)
        elif role(producer.layer) in ("arithmetic", "join"):
            self.plan_of(producer.layer).limits[OUTPUT] = limit
            if is_sum(producer.layer):
                for at, term in producer.inputs:
                    flips = at > 0 and kind(producer.layer) == "Subtract"
                    sign = isinstance(limit, AddedMask) and limit.subtracted
                    self._limit(producer, (at, term), AddedMask(flips != sign))


def _ranges(
    inner: tuple[str, ...] | Mapping[str, FixedRange | AtMost | None],
) -> dict[str, FixedRange | AtMost | None]:
    return dict(inner) if isinstance(inner, Mapping) else dict.fromkeys(inner)


_Fits = Callable[[keras.Layer], bool]

# What becomes one operation with the layer before it, and what that one may be.
_FUSED_STAGES: tuple[tuple[_Fits, _Fits], ...] = (
    (normalizes_channels, is_linear_with_weights),
    (is_fused_activation, stores_as_computed),
)
