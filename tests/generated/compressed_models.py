"""Models described by plain data: drawn, built, and pasted into a test.

    Net("vector", (Part("Dense relu", 5), Part("PReLU")), outputs=2, form="nested")

Any such description makes a model. A part that finds no tensor of its kind is left
out, so that a description stays valid while Hypothesis makes it smaller.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from hypothesis import strategies as st

from tests.generated.compressed_parts import PARTS, RANKS, PartKind, ToItself
from tests.generated.description import Description

FORMS = ("functional", "nested", "subclassed")
STRUCTURES = ("one", "list", "dict")
SHAPES = {"vector": (6,), "tokens": (5,), "sequence": (5, 4), "image": (6, 7, 3)}
SAMPLES = 32


@dataclass(frozen=True, repr=False)
class Part(Description):
    """One step of a model.

    Args:
        name: What it is, in `PARTS`.
        size: Its units or filters, where it has such.
        back: How many tensors of its kind, newest first, are passed over.
        shared: Whether it calls the layer that an equal part before it made.
    """

    name: str
    size: int = 3
    back: int = 0
    shared: bool = False


@dataclass(frozen=True, repr=False)
class Net(Description):
    """A model.

    Args:
        takes: The kind of its input.
        parts: Its steps.
        outputs: How many of the last vectors it gives, each behind a head.
        structure: `one`, `list` or `dict` of these.
        form: How it is written.
        heads: The activations of the heads, in turns; "none" gives out what is there.
        vectors: What biases and statistics are: `fresh` from Keras, `drawn`, or
            `constant`, one number for all channels.
    """

    takes: str
    parts: tuple[Part, ...]
    outputs: int = 1
    structure: str = "list"
    form: str = "functional"
    heads: tuple[str, ...] = ("linear",)
    vectors: str = "fresh"

    @property
    def has_state(self) -> bool:
        return any(PARTS[part.name].state for part in self.parts)


class Program:
    """Runs a description on tensors; its layers are made once."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.layers: dict[Any, Callable[..., Any]] = {}

    def __call__(self, x: Any) -> Any:
        return self.head(self.body(x))

    def body(self, x: Any) -> list[Any]:
        tensors = [(self.net.takes, x)]
        for place, part in enumerate(self.net.parts):
            found = self._apply(part, place, tensors)
            if found is not None:
                tensors.append(found)
        return [tensor for _, tensor in tensors]

    def head(self, tensors: list[Any]) -> Any:
        net = self.net
        outputs = {}
        for place in range(net.outputs):
            tensor = tensors[-1 - place % len(tensors)]
            activation = net.heads[place % len(net.heads)]
            for name, make in _ENDS.items():
                key = (name, place)
                if len(tensor.shape) == RANKS[name] and name != "tokens":
                    tensor = self._layer(key, lambda make=make: make(3))(tensor)
            if net.takes == "tokens" and len(tensors) == 1:
                tensor = self._layer("cast", lambda: _Floats())(tensor)
            if activation != "none":
                tensor = self._layer(
                    ("head", place),
                    lambda a=activation, p=place: keras.layers.Dense(
                        3, activation=a, name=f"out{p}"
                    ),
                )(tensor)
            outputs[f"out{place}"] = tensor
        if net.structure == "dict":
            return outputs
        values = list(outputs.values())
        return values[0] if net.structure == "one" or len(values) == 1 else values

    def _apply(self, part: Part, place: int, tensors: list[Any]) -> Any:
        kind = PARTS[part.name]
        fitting = [x for name, x in reversed(tensors) if _fits(kind, name, x)]
        if not fitting:
            return None
        chosen = fitting[part.back % len(fitting)]
        arguments = [chosen]
        if kind.count == 2:
            arguments = [[fitting[0], chosen]]
            if len({tuple(x.shape[:-1]) for x in arguments[0]}) > 1:
                return None
        earlier = self.net.parts[:place]
        same = [at for at, one in enumerate(earlier) if one.name == part.name]
        key: Any = (place, part.name)
        if part.shared and same:
            shared = (same[0], part.name, tuple(chosen.shape[1:]))
            key = shared if shared in self.layers else key
        layer = self._layer(key, lambda: kind.make(part.size))
        self.layers.setdefault((place, part.name, tuple(chosen.shape[1:])), layer)
        result = layer(*arguments)
        return _kind_of(result), result

    def _layer(self, key: Any, make: Callable[[], Any]) -> Callable[..., Any]:
        if key not in self.layers:
            self.layers[key] = make()
        return self.layers[key]


@keras.saving.register_keras_serializable("generated")
class _Floats(keras.layers.Layer):
    def call(self, x):
        return keras.ops.cast(x, "float32") / 12.0


@keras.saving.register_keras_serializable("generated")
class ByHand(keras.Model):
    """A model whose `call` nobody can look into."""

    def __init__(self, net: str, **options: Any) -> None:
        super().__init__(**options)
        self.net = net
        self.program = Program(read(net))
        # A first run makes the layers, so that Keras finds them as attributes.
        self.program(_input(self.program.net))
        made = self.program.layers.values()
        self.parts = [
            one.layer if isinstance(one, ToItself) else one
            for one in dict.fromkeys(made)
            if isinstance(one, (ToItself, keras.layers.Layer))
        ]

    def call(self, x):
        return self.program(x)

    def get_config(self):
        return {**super().get_config(), "net": self.net}


def build(net: Net) -> keras.Model:
    """The model that a description is of, with the same weights every time."""
    model = _built(net)
    if net.vectors != "fresh":
        random = np.random.default_rng(3)
        for variable in model.variables:
            if variable.name in _VECTORS:
                shape = variable.shape if net.vectors == "drawn" else ()
                values = _VECTORS[variable.name](random, shape)
                variable.assign(np.broadcast_to(values, variable.shape))
    return model


# As training may leave them.
_VECTORS: dict[str, Callable[[np.random.Generator, Any], Any]] = {
    "bias": lambda random, shape: random.normal(0.2, 0.5, shape),
    "beta": lambda random, shape: random.normal(0.0, 0.5, shape),
    "gamma": lambda random, shape: random.uniform(0.5, 1.5, shape),
    "moving_mean": lambda random, shape: random.normal(0.0, 0.3, shape),
    "moving_variance": lambda random, shape: random.uniform(0.5, 2.0, shape),
}


def _built(net: Net) -> keras.Model:
    keras.utils.set_random_seed(1)
    inputs = _input(net)
    program = Program(net)
    if net.form == "subclassed":
        model = ByHand(repr(net))
        model(data(net))
        reset(model)
        return model
    if net.form == "nested":
        made = program.body(inputs)[1:]
        if made:
            inner = keras.Model(inputs, made, name="inner")
            outer = _input(net)
            tensors = inner(outer)
            tensors = tensors if isinstance(tensors, list) else [tensors]
            return keras.Model(outer, program.head([outer, *tensors]))
    return keras.Model(inputs, program(inputs))


def data(net: Net, samples: int = SAMPLES) -> np.ndarray:
    """Samples that a model takes."""
    random = np.random.default_rng(0)
    shape = (samples, *SHAPES[net.takes])
    if net.takes == "tokens":
        tokens = random.integers(1, 12, shape).astype("int32")
        tokens[: samples // 2, 3:] = 0
        return tokens
    return random.normal(size=shape).astype("float32")


def outputs(model: keras.Model, x: Any) -> dict[str, np.ndarray]:
    """What a model computes at inference, by output, from fresh state."""
    reset(model)
    found = model.predict_on_batch(x)
    reset(model)
    flat = keras.tree.flatten(found)
    return {f"out{place}": np.asarray(one) for place, one in enumerate(flat)}


def reset(model: keras.Model) -> None:
    """Forget what calls have left behind."""
    for layer in model._flatten_layers():
        if getattr(layer, "stateful", False) and hasattr(layer, "reset_state"):
            layer.reset_state()
        if hasattr(layer, "seen"):
            layer.seen.assign(0.0)


def targets(model: keras.Model, x: Any) -> Any:
    """Something to train to."""
    shapes = keras.tree.map_structure(np.asarray, model.predict_on_batch(x))
    return keras.tree.map_structure(lambda one: np.full(one.shape, 0.5), shapes)


def read(text: str) -> Net:
    """The description that printed so."""
    return eval(text, {"Net": Net, "Part": Part})


def nets(**fixed: Any) -> st.SearchStrategy[Net]:
    """Draws models."""
    part = st.builds(
        Part,
        st.sampled_from(sorted(PARTS)),
        st.sampled_from([1, 3, 5, 8]),
        st.sampled_from([0, 1, 2]),
        st.booleans(),
    )
    drawn: dict[str, Any] = {
        "takes": st.sampled_from(sorted(SHAPES)),
        "outputs": st.sampled_from([1, 2, 3]),
        "structure": st.sampled_from(STRUCTURES),
        "form": st.sampled_from(FORMS),
        "heads": st.sampled_from(
            [("linear",), ("none",), ("sigmoid", "linear"), ("softmax", "linear")]
        ),
        "vectors": st.sampled_from(["fresh", "drawn", "constant"]),
    }
    drawn |= {name: st.just(value) for name, value in fixed.items()}

    def with_parts(takes: str) -> st.SearchStrategy[Net]:
        # Mostly parts that find their kind of tensor.
        usual = sorted(n for n, kind in PARTS.items() if kind.takes == takes)
        first = st.builds(Part, st.sampled_from(usual), st.sampled_from([3, 5, 8]))
        lists = st.tuples(first, st.lists(part, max_size=6))
        parts = lists.map(lambda pair: (pair[0], *pair[1]))
        return st.builds(Net, **{**drawn, "takes": st.just(takes)}, parts=parts)

    return drawn["takes"].flatmap(with_parts)


_ENDS = {
    "image": lambda _: keras.layers.GlobalAveragePooling2D(),
    "sequence": lambda _: keras.layers.Flatten(),
}


def _input(net: Net) -> Any:
    size = SAMPLES if net.has_state else None
    dtype = "int32" if net.takes == "tokens" else "float32"
    return keras.Input(batch_shape=(size, *SHAPES[net.takes]), dtype=dtype)


def _fits(kind: PartKind, name: str, tensor: Any) -> bool:
    if kind.takes != name:
        return False
    return name != "image" or min(tensor.shape[1:3]) >= 3


def _kind_of(tensor: Any) -> str:
    return {2: "vector", 3: "sequence", 4: "image"}[len(tensor.shape)]
