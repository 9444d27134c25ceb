"""What is done to a model holds wherever its layers are trained, and in its copies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from hypothesis import strategies as st

import kopt
from tests.generated.description import Description
from tests.generated.law import apart, law
from tests.generated.models import MODEL, Model, models
from tests.generated.training import Record, Situation, Training, array, two_replicas


@dataclass(frozen=True, repr=False)
class Nested(Description):
    """Two compiled models, one in the other; one is changed, and one trained.

    Args:
        change: `prune` or `penalize`.
        changed: The model that is changed, `inner` or `outer`.
        trained: The model that is trained before and after.
        eager: Whether it is trained without a graph.
    """

    change: str = "prune"
    changed: str = "outer"
    trained: str = "inner"
    eager: bool = False


@law(
    st.builds(
        Nested,
        st.sampled_from(("prune", "penalize")),
        st.sampled_from(("inner", "outer")),
        st.sampled_from(("inner", "outer")),
        st.booleans(),
    ),
    quick=2,
)
def a_change_holds_in_every_compiled_model(case: Nested) -> None:
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    layers = keras.layers
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(8), layers.Dense(4)])
    outer = keras.Sequential([keras.Input((4,)), inner, layers.Dense(4)])
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    by_name = {"inner": inner, "outer": outer}
    for model in by_name.values():
        model.compile("sgd", "mse", run_eagerly=case.eager, jit_compile=False)
        model.fit(x, x, verbose=0)
    changed, trained = by_name[case.changed], by_name[case.trained]
    if case.change == "prune":
        kopt.pruning.prune_low_magnitude(changed, kopt.pruning.OneShot(0.5))
        trained.fit(x, x, verbose=0)
        kernel = inner.layers[0].kernel.numpy()
        assert (kernel == 0).mean() == 0.5, f"{(kernel == 0).mean()} are zero, not half"
        return
    kopt.regularizers.apply(changed, {"dense": kopt.regularizers.L2(1.0)})
    expected = np.mean((trained(x).numpy() - x) ** 2) + float(sum(trained.losses))
    loss = trained.fit(x, x, verbose=0).history["loss"][0]
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@dataclass(frozen=True, repr=False)
class Copied(Description):
    """A penalty on a model, and how the model is copied: `clone` or `file`."""

    model: Model = MODEL
    weights: str = "kernel"
    by: str = "clone"


@st.composite
def _copied(draw: Any) -> Copied:
    inputs = ("vector", "image", "sequence", "masked", "masked")
    model = draw(models(inputs, styles=("functional", "sequential")))
    # Keras copies an attention that is frozen with parts that are not.
    trunk = [
        layer.but(frozen=layer.frozen and layer.kind != "MultiHeadAttention")
        for layer in model.trunk
    ]
    model = model.but(trunk=tuple(trunk))
    return Copied(model, "kernel", draw(st.sampled_from(("clone", "clone", "file"))))


@law(_copied(), quick=6)
def penalties_are_copied_with_a_model(case: Copied) -> None:
    training = Training(Situation(case.model))
    model = kopt.regularizers.apply(training.model, {".*": kopt.regularizers.L2(1.0)})
    if case.by == "clone":
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
    else:
        config = keras.saving.serialize_keras_object(model)
        copy = keras.saving.deserialize_keras_object(config)
        copy.set_weights(model.get_weights())
    found, expected = (float(sum(map(array, m.losses))) for m in (copy, model))
    assert abs(found - expected) < 1e-4, (
        f"the copy has {len(copy.losses)} penalties of {found}, the model "
        f"{len(model.losses)} of {expected}"
    )


@dataclass(frozen=True, repr=False)
class Quantized(Description):
    """Quantization-aware training, to run on one device and on two replicas."""

    model: Model = MODEL
    batches: int = 3


@st.composite
def _quantized(draw: Any) -> Quantized:
    without = ("stateful", "Dropout", "BatchNormalization")
    inputs, styles = ("vector", "image"), ("functional", "sequential")
    model = draw(models(inputs, styles, without=without, most=2))
    return Quantized(model, draw(st.integers(2, 4)))


@law(_quantized(), quick=1)
def two_replicas_quantize_as_one(case: Quantized) -> None:
    one, two = (_trained_quantized(case, s) for s in (None, two_replicas()))
    worst, where = apart([one], [two])
    assert worst < 1e-4, f"{where} differs by {worst:.2g}"


def _trained_quantized(case: Quantized, strategy: Any) -> Record:
    situation = Situation(case.model, batch=8, mode="graph")
    training = Training(situation, strategy=strategy)
    x, y = training.data(case.batches)
    with training.scope():
        training.model = kopt.quantization.quantize_model(training.model, None, x[:8])
        training.compile(kopt.SGD(2.0**-6))
    training.model.fit(x, y, batch_size=8, verbose=0, shuffle=False)
    return training.record(None, [])
