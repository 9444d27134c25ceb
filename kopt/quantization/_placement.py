"""Where a model is quantized: which weights, and which tensors get a range.

Read from a trace of the model's calls and the table of rules; nothing is changed
here. The aim is that at inference everything between two ranges is one integer
operation. A convolution, the batch normalization and the ReLU behind it become one,
so there is no rounding between them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import keras

from kopt.quantization._activations import activation_of
from kopt.quantization._trace import Call, Trace, leaf_layers
from kopt.quantization.rule import Rule, rule_for


@dataclass
class LayerPlan:
    """What one layer gets.

    Attributes:
        layer: The layer.
        weights: Name and channel axes of each weight to quantize.
        inputs: Positions of the inputs that get a range here.
        preactivation: Whether the values before its activation get a range.
        output: Whether its outputs get a range.
        fixed_range: The range of the outputs where the runtime prescribes it.
        stays_float: Whether it is computed in float.
        note: Why it stays float, or what becomes of it in the integer model.
    """

    layer: keras.Layer
    weights: dict[str, tuple[int, ...]] = field(default_factory=dict)
    inputs: set[int] = field(default_factory=set)
    preactivation: bool = False
    output: bool = False
    fixed_range: tuple[float, float] | None = None
    stays_float: bool = False
    note: str = ""

    @property
    def changes_layer(self) -> bool:
        """Whether the layer is another one afterwards."""
        return bool(self.weights or self.inputs or self.preactivation or self.output)


def plan(model: keras.Model, trace: Trace) -> list[LayerPlan]:
    """A plan for each leaf layer of a model, in the order of the calls."""
    placement = _Placement(trace)
    untouched = {id(layer) for layer in trace.untouched}
    for layer in leaf_layers(model):
        if id(layer) in untouched:
            placement.plan_of(layer).note = "hands its input on at inference"
        elif id(layer) not in placement.plans and layer.weights:
            placement.leave_float(layer, "not called when the model predicts")
    return list(placement.plans.values())


class _Placement:
    """Reads a trace call by call and fills in the plans."""

    def __init__(self, trace: Trace) -> None:
        self.plans: dict[int, LayerPlan] = {}
        self._model_outputs = trace.outputs
        self._producer: dict[int, Call] = {}
        self._consumers: dict[int, list[Call]] = defaultdict(list)
        self._on_grid: set[int] = set()
        self._absorbed: set[int] = set()
        self._integer_calls: list[Call] = []
        # The calls after which a layer needs the range of its outputs.
        self._ends: dict[int, list[Call]] = defaultdict(list)
        for call in trace.calls:
            self.plan_of(call.layer)
            self._producer.update(dict.fromkeys(call.outputs, call))
            for _, tensor in call.inputs:
                self._consumers[tensor].append(call)
        for call in trace.calls:
            if id(call) not in self._absorbed:
                self._place(call)
        for call in self._integer_calls:
            self._leave_rounding_to_join(call)
        for call in self._integer_calls:
            for position, tensor in call.inputs:
                self._put_on_grid(tensor, call, position)
        for layer_id, calls in self._ends.items():
            self.plans[layer_id].output = bool(calls)

    def plan_of(self, layer: keras.Layer) -> LayerPlan:
        return self.plans.setdefault(id(layer), LayerPlan(layer))

    def leave_float(self, layer: keras.Layer, reason: str) -> None:
        self.plan_of(layer).stays_float = True
        self.plan_of(layer).note = reason

    def _place(self, call: Call) -> None:
        layer, rule = call.layer, rule_for(call.layer)
        if rule is None:
            name = getattr(layer, "float_class", type(layer)).__name__
            self.leave_float(layer, f"{name} has no rule")
        elif rule.role == "same":
            self.plan_of(layer).note = "keeps the range of its input"
        elif rule.role == "batch_norm":
            self.leave_float(layer, "no layer with weights directly before it")
        elif reason := _unfit_weights(layer, rule):
            self.leave_float(layer, reason)
        else:
            self._quantize(call, rule)

    def _quantize(self, call: Call, rule: Rule) -> None:
        self._integer_calls.append(call)
        layer_plan = self.plan_of(call.layer)
        layer_plan.weights = dict(rule.weights)
        activation = activation_of(call.layer)
        if activation.kind in ("none", "fused"):
            self._end_in_range(self._last_of_fused(call, rule, activation.kind))
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

    def _last_of_fused(self, call: Call, rule: Rule, activation: str) -> Call:
        """The last call that is computed together with this one."""
        if rule.role not in ("compute", "arithmetic") or activation == "fused":
            return call
        last = call
        after = self._sole_consumer(last)
        if after and rule.role == "compute" and _normalizes_channels(after.layer):
            last = self._absorb(after, call)
            after = self._sole_consumer(last)
        if after and _is_fused_activation(after.layer):
            last = self._absorb(after, call)
        return last

    def _absorb(self, call: Call, into: Call) -> Call:
        self._absorbed.add(id(call))
        self.plan_of(call.layer).note = f"computed together with {into.layer.name}"
        return call

    def _sole_consumer(self, call: Call) -> Call | None:
        if len(call.outputs) != 1 or call.outputs[0] in self._model_outputs:
            return None
        consumers = self._consumers[call.outputs[0]]
        return consumers[0] if len(consumers) == 1 else None

    def _leave_rounding_to_join(self, call: Call) -> None:
        """Round what goes into a join alone only behind it, to one common range."""
        if rule_for(call.layer).role != "join":
            return
        for _, tensor in call.inputs:
            producer = self._producer.get(tensor)
            if producer is None or self.plan_of(producer.layer).fixed_range:
                continue
            ends = self._ends.get(id(producer.layer), [])
            if producer in ends and self._sole_consumer(producer) is call:
                ends.remove(producer)

    def _put_on_grid(self, tensor: int, consumer: Call, position: int) -> None:
        """See that a tensor has a range: where it comes from, or where it goes in."""
        if tensor in self._on_grid:
            return
        producer = self._producer.get(tensor)
        rule = rule_for(producer.layer) if producer else None
        if producer is None or rule is None or rule.role != "same":
            self.plan_of(consumer.layer).inputs.add(position)
            return
        for earlier_position, earlier in producer.inputs:
            self._put_on_grid(earlier, producer, earlier_position)


def _unfit_weights(layer: keras.Layer, rule: Rule) -> str:
    for name in rule.weights:
        weight = getattr(layer, name, None)
        if not isinstance(weight, keras.Variable):
            return f"its {name} is not a plain variable"
        if not keras.backend.is_float_dtype(weight.dtype):
            return f"its {name} is {weight.dtype} already"
    return ""


def _normalizes_channels(layer: keras.Layer) -> bool:
    rule = rule_for(layer)
    if rule is None or rule.role != "batch_norm":
        return False
    return layer.axis in (-1, layer.input_spec.ndim - 1)


def _is_fused_activation(layer: keras.Layer) -> bool:
    rule = rule_for(layer)
    if rule is None or rule.role != "activation":
        return False
    return activation_of(layer).kind == "fused"
