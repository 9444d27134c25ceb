"""Models to train: what they are made of, and how to draw one.

Every layer of the trunk keeps the shape of what it gets, `WIDTH` features, so that any
of them can be repeated, shared, nested or left out when an example is made smaller.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from hypothesis import strategies as st

from tests.generated.building import (
    BUILDERS,
    ROWS,
    VOCABULARY,
    WIDTH,
    WORDS,
    SelfAttention,
    input_shape,
    layers_in,
)
from tests.generated.description import Description

_SAME = {"padding": "same"}
_RECURRENT = {
    "units": WIDTH,
    "return_sequences": True,
    # Keras's default, an orthogonal kernel, cannot be computed in bfloat16.
    "recurrent_initializer": "glorot_uniform",
}

#: Layers by the kind of features that they work on.
VECTOR = {
    "Dense": {"units": WIDTH, "activation": "tanh"},
    "BatchNormalization": {},
    "LayerNormalization": {},
    "Dropout": {"rate": 0.3, "seed": 3},
}
MASKED = {
    "SimpleRNN": _RECURRENT,
    "GRU": _RECURRENT,
    "LSTM": _RECURRENT,
    "MultiHeadAttention": {"num_heads": 2, "key_dim": 2, "use_bias": False},
    **VECTOR,
}
SEQUENCE = {
    "Conv1D": {"filters": WIDTH, "kernel_size": 2, "groups": 2, **_SAME},
    "DepthwiseConv1D": {"kernel_size": 2, **_SAME},
    "SeparableConv1D": {"filters": WIDTH, "kernel_size": 2, **_SAME},
    "Conv1DTranspose": {"filters": WIDTH, "kernel_size": 2, **_SAME},
    "EinsumDense": {"equation": "abc,cd->abd", "output_shape": (None, WIDTH)},
    **MASKED,
}
IMAGE = {
    "Conv2D": {"filters": WIDTH, "kernel_size": 2, **_SAME},
    "DepthwiseConv2D": {"kernel_size": 3, **_SAME},
    "SeparableConv2D": {"filters": WIDTH, "kernel_size": 2, **_SAME},
    "Conv2DTranspose": {"filters": WIDTH, "kernel_size": 2, **_SAME},
    **VECTOR,
}
RECURRENT = ("SimpleRNN", "GRU", "LSTM")
#: What makes a sample's result depend on the others in the batch, or on the moment.
OF_THE_BATCH = ("BatchNormalization", "Dropout")
MENUS = {
    "vector": VECTOR,
    "sequence": SEQUENCE,
    "tokens": SEQUENCE,
    "masked": MASKED,
    "image": IMAGE,
}
STYLES = ("functional", "sequential", "subclassed")
POLICIES = ("float32", "float64", "mixed_bfloat16", "mixed_float16", "bfloat16")


@dataclass(frozen=True, repr=False)
class Layer(Description):
    """A layer of the trunk.

    Args:
        kind: Its class in `keras.layers`.
        options: Arguments beside those that keep its shape.
        frozen: Whether it is frozen before the model is compiled.
        times: How often it is applied: a shared layer is applied twice.
        nested: Whether it stands in a model of its own.
    """

    kind: str = "Dense"
    options: dict[str, Any] = field(default_factory=dict)
    frozen: bool = False
    times: int = 1
    nested: bool = False

    def build(self, place: int) -> keras.Layer:
        arguments = {**{**SEQUENCE, **IMAGE}[self.kind], **self.options}
        name = f"layer_{place}"
        layer = getattr(keras.layers, self.kind)(**arguments, name=name)
        if self.kind == "MultiHeadAttention":
            layer = SelfAttention(layer, name=name)
        return layer


@dataclass(frozen=True, repr=False)
class Head(Description):
    """An output of one unit, with or without a loss."""

    loss: bool = True


@dataclass(frozen=True, repr=False)
class Model(Description):
    """A model: the kind of its input, a trunk, and one head or several.

    Args:
        inputs: A key of `MENUS`.
        trunk: Layers that keep the shape.
        heads: The outputs `head_0`, `head_1`.
        style: One of `STYLES`.
        policy: The dtype policy.
    """

    inputs: str = "vector"
    trunk: tuple[Layer, ...] = ()
    heads: tuple[Head, ...] = (Head(),)
    style: str = "functional"
    policy: str = "float32"

    @property
    def stateful(self) -> bool:
        return any(layer.options.get("stateful") for layer in self.trunk)

    @property
    def frozen(self) -> set[str]:
        """The names of the layers that are frozen before the model is compiled."""
        places = [place for place, layer in enumerate(self.trunk) if layer.frozen]
        return {f"layer_{place}" for place in places}

    def build(self) -> keras.Model:
        """The model with its first weights, which depend on nothing else."""
        keras.utils.set_random_seed(1)
        keras.config.set_dtype_policy(self.policy)
        model = BUILDERS[self.style](self)
        for layer in layers_in(model):
            # Now: what attention is made of would be trainable if it came after that.
            if layer.name in self.frozen:
                layer.trainable = False
        generator = np.random.default_rng(2)
        for variable in model.trainable_variables:
            noise = 0.2 * generator.normal(size=variable.shape)
            variable.assign(keras.ops.cast(variable, "float32") + noise)
        return model

    def rows(self, first: int, count: int) -> tuple[Any, Any]:
        """Samples `first` to `first + count` of the data: inputs and targets."""
        chosen = np.arange(first, first + count) % ROWS
        generator = np.random.default_rng(7)
        shape = (ROWS, *input_shape(self.inputs))
        if self.inputs in WORDS:
            x = generator.integers(0, VOCABULARY, size=shape).astype("int32")
            x[:, 0] = np.maximum(x[:, 0], 1)  # Something is to be left of each sample.
        else:
            x = generator.normal(size=shape).astype("float32")
        y = generator.normal(size=(len(self.heads), ROWS, 1)).astype("float32")
        if self.style == "sequential":
            return x[chosen], y[0][chosen]
        heads = self._trained_heads()
        return x[chosen], {name: y[int(name[-1])][chosen] for name in heads}

    def losses(self) -> Any:
        """What `compile` gets as `loss`; a sequential model has a single output."""
        if self.style == "sequential":
            return keras.losses.MeanSquaredError()
        return {name: keras.losses.MeanSquaredError() for name in self._trained_heads()}

    def _trained_heads(self) -> list[str]:
        return [f"head_{i}" for i, head in enumerate(self.heads) if head.loss]


MODEL = Model()


@st.composite
def layers(draw: Any, kinds: tuple[str, ...], shared: bool, nested: bool) -> Layer:
    """Draw a layer, which may be `shared` and `nested` where that is possible."""
    kind = draw(st.sampled_from(kinds))
    options = {}
    if kind in RECURRENT and draw(st.booleans()):
        options["stateful"] = True
    if kind == "Dense" and draw(st.booleans()):
        options["kernel_constraint"] = "max_norm"
    shared = shared and kind not in (*RECURRENT, "Dropout")
    return Layer(
        kind,
        options,
        frozen=draw(st.integers(0, 3)) == 3,
        times=draw(st.sampled_from((1, 1, 2))) if shared else 1,
        nested=nested and draw(st.integers(0, 3)) == 3,
    )


@st.composite
def models(
    draw: Any,
    inputs: tuple[str, ...] = tuple(MENUS),
    styles: tuple[str, ...] = STYLES,
    policies: tuple[str, ...] = ("float32",),
    without: tuple[str, ...] = (),
    most: int = 3,
) -> Model:
    """Draw a model.

    Args:
        inputs: Kinds of input to draw from.
        styles: Styles to draw from.
        policies: Dtype policies to draw from.
        without: Layers and options that a law has to do without.
        most: The longest trunk.
    """
    kind, style = draw(st.sampled_from(inputs)), draw(st.sampled_from(styles))
    menu = tuple(name for name in MENUS[kind] if name not in without)
    # A sequential model takes each layer once; Keras passes no mask into models.
    drawn = layers(menu, style != "sequential", kind != "masked")
    trunk = draw(st.lists(drawn, max_size=most))
    if "stateful" in without:
        trunk = [
            layer.but(
                options={k: v for k, v in layer.options.items() if k != "stateful"}
            )
            for layer in trunk
        ]
    heads = (Head(),)
    if style != "sequential":
        heads = draw(
            st.sampled_from(((Head(),), (Head(), Head(False)), (Head(), Head())))
        )
    return Model(kind, tuple(trunk), heads, style, draw(st.sampled_from(policies)))
