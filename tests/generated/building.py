"""How the layers of a described model are put together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras

from tests.generated.description import read

if TYPE_CHECKING:
    from tests.generated.models import Model

WIDTH = 4
LENGTH = 3
SIDE = 4
VOCABULARY = 9
#: Samples in the data, which begin again after the last.
ROWS = 96
#: Samples that a stateful layer expects in every batch.
STATEFUL_BATCH = 4
#: Inputs that are numbers of words, which an embedding looks up.
WORDS = ("tokens", "masked")


@keras.saving.register_keras_serializable("tests.generated")
class SelfAttention(keras.layers.Layer):
    """Attention of a sequence to itself."""

    def __init__(self, attention: Any, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.attention = attention
        self.supports_masking = True

    def build(self, shape: Any) -> None:
        if not self.attention.built:
            self.attention.build(shape, shape)
        super().build(shape)

    def call(self, x: Any) -> Any:
        return self.attention(x, x)

    def get_config(self) -> dict[str, Any]:
        attention = keras.saving.serialize_keras_object(self.attention)
        return {**super().get_config(), "attention": attention}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SelfAttention:
        attention = keras.saving.deserialize_keras_object(config.pop("attention"))
        return cls(attention, **config)


@keras.saving.register_keras_serializable("tests.generated")
class Subclassed(keras.Model):
    """The same layers in a model that is a class of its own."""

    def __init__(
        self, description: str, frozen: tuple[str, ...] = (), **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self.description, self.frozen = description, frozen
        plan = read(description)
        self.first, self.trunk, self.last, self.heads = _parts(plan)
        self.times = [layer.times for layer in plan.trunk]

    def build(self, shape: Any) -> None:
        inside = (*shape, WIDTH) if self.first is not None else shape
        if self.first is not None:
            self.first.build(shape)
        for layer in self.trunk:
            if not layer.built:
                layer.build(inside)
        for head in self.heads:
            head.build((None, WIDTH))
        for layer in layers_in(self):
            # Keras leaves it to the class to say what of it is frozen.
            if layer.name in self.frozen:
                layer.trainable = False
        self.built = True

    def call(self, x: Any) -> Any:
        return _applied(x, self.first, self.trunk, self.times, self.last, self.heads)

    def get_config(self) -> dict[str, Any]:
        frozen = [layer.name for layer in layers_in(self) if not layer.trainable]
        return {"description": self.description, "frozen": frozen, "name": self.name}


def layers_in(layer: keras.Layer) -> Iterator[keras.Layer]:
    """Every layer of a model, and of the models in it."""
    for inner in getattr(layer, "layers", []):
        yield inner
        yield from layers_in(inner)


def input_shape(inputs: str) -> tuple[int, ...]:
    return {
        "vector": (WIDTH,),
        "sequence": (LENGTH, WIDTH),
        "image": (SIDE, SIDE, WIDTH),
    }.get(inputs, (LENGTH,))


def _parts(plan: Model) -> tuple[Any, list[Any], Any, list[Any]]:
    """The layers of a model: embedding, trunk, pooling, heads."""
    first = None
    if plan.inputs in WORDS:
        masks = plan.inputs == "masked"
        first = keras.layers.Embedding(VOCABULARY, WIDTH, mask_zero=masks, name="table")
    trunk = [layer.build(place) for place, layer in enumerate(plan.trunk)]
    shape = (*input_shape(plan.inputs)[: 2 if plan.inputs == "image" else 1], WIDTH)
    for place, layer in enumerate(plan.trunk):
        if layer.nested:
            kept = _batch_size(plan)
            inputs = keras.Input(shape if plan.inputs != "vector" else (WIDTH,), kept)
            trunk[place] = keras.Model(inputs, trunk[place](inputs), name=f"in_{place}")
    pools = {1: None, 2: keras.layers.GlobalAveragePooling1D}
    pool = pools.get(len(input_shape(plan.inputs)), keras.layers.GlobalAveragePooling2D)
    if first is not None:
        pool = keras.layers.GlobalAveragePooling1D
    heads = [keras.layers.Dense(1, name=f"head_{i}") for i in range(len(plan.heads))]
    return first, trunk, pool and pool(), heads


def _applied(
    x: Any, first: Any, trunk: Any, times: Any, last: Any, heads: Any
) -> dict[str, Any]:
    x = x if first is None else first(x)
    for layer, count in zip(trunk, times, strict=True):
        for _ in range(count):
            x = layer(x)
    x = x if last is None else last(x)
    return {head.name: head(x) for head in heads}


def _batch_size(plan: Model) -> int | None:
    return STATEFUL_BATCH if plan.stateful else None


def _input(plan: Model) -> Any:
    dtype = "int32" if plan.inputs in WORDS else None
    return keras.Input(input_shape(plan.inputs), _batch_size(plan), dtype=dtype)


def _functional(plan: Model) -> keras.Model:
    first, trunk, last, heads = _parts(plan)
    inputs, times = _input(plan), [layer.times for layer in plan.trunk]
    return keras.Model(inputs, _applied(inputs, first, trunk, times, last, heads))


def _sequential(plan: Model) -> keras.Model:
    first, trunk, last, heads = _parts(plan)
    layers = [first, *trunk, last, *heads]
    return keras.Sequential([_input(plan), *(x for x in layers if x is not None)])


def _subclassed(plan: Model) -> keras.Model:
    model = Subclassed(repr(plan), name="subclassed")
    model.build((_batch_size(plan), *input_shape(plan.inputs)))
    return model


BUILDERS = {
    "functional": _functional,
    "sequential": _sequential,
    "subclassed": _subclassed,
}
