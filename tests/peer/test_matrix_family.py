"""Muon, SOAP and APOLLO against other libraries, in float64."""

import importlib.util
import sys
import types

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from tests.peer import steps
from tests.reference.optimizers import trajectory

pytestmark = pytest.mark.peer

SHAPES = [(7, 5), (5, 7), (3, 3, 4, 6)]


@pytest.mark.parametrize(
    "rms_rate",
    [
        # optax compiles for twenty seconds.
        pytest.param(0.2, marks=pytest.mark.slow),
        pytest.param(None, marks=pytest.mark.thorough),
    ],
)
def test_muon_takes_the_steps_of_optax(rms_rate):
    # With Nesterov momentum optax corrects the two terms by different numbers.
    muon = pytest.importorskip("optax.contrib").muon
    from optax.contrib import MuonDimensionNumbers

    weights, gradients = steps.stream(SHAPES)
    # The libraries add different numbers to a norm; beside these it is nothing.
    given = weights, [[1e6 * g for g in step] for step in gradients]
    axes = [MuonDimensionNumbers(tuple(range(w.ndim - 1)), w.ndim - 1) for w in weights]
    expected = steps.with_optax(
        lambda: muon(
            steps.RATE,
            nesterov=False,
            consistent_rms=rms_rate,
            weight_decay=0.1,
            muon_weight_dimension_numbers=axes,
        ),
        given,
    )
    found = steps.with_kopt(
        "Muon",
        given,
        nesterov=False,
        rms_rate=rms_rate,
        weight_decay=0.1,
        exclude_head=False,
        input_axes={"variable_2": (0, 1, 2)},
    )
    assert trajectory.distance(found, expected) < 1e-10


def test_muon_takes_the_steps_of_keras_on_matrices():
    weights, gradients = steps.stream([(7, 5), (5, 7), (6, 6)])
    found = steps.with_kopt("Muon", (weights, gradients), exclude_head=False)
    variables = [keras.Variable(w, dtype="float64") for w in weights]
    optimizer = keras.optimizers.Muon(steps.RATE)
    optimizer.build(variables)
    for gradient in gradients:
        optimizer.apply([tf.constant(g) for g in gradient], variables)
    expected = [np.array(variable) for variable in variables]
    # Both round, and the iteration multiplies what is near 0 by 400.
    assert trajectory.distance(found, expected) < 1e-9


def test_soap_takes_the_steps_of_its_torch_port():
    soap = pytest.importorskip("pytorch_optimizer").SOAP
    # Two updates before the first turn of the basis, which the port rounds to float32.
    given = steps.stream([(5, 5), (3, 3, 4, 6), (7,)], steps=10)
    arguments = {"betas": (0.9, 0.8), "shampoo_beta": 0.7, "weight_decay": 0.0}
    expected = steps.with_torch(soap, given, merge_dims=False, **arguments)
    found = steps.with_kopt(
        "SOAP", given, beta_1=0.9, beta_2=0.8, shampoo_beta=0.7, weight_decay=None
    )
    # The port also leaves out the first update of a vector.
    assert trajectory.distance(found[:2], expected[:2]) < 1e-10


def test_soap_turns_its_basis_like_the_torch_port():
    soap = pytest.importorskip("pytorch_optimizer").SOAP
    given = steps.stream([(5, 5), (3, 3, 4, 6)], steps=25)
    expected = steps.with_torch(
        soap, given, merge_dims=False, weight_decay=0.0, precondition_frequency=4
    )
    found = steps.with_kopt("SOAP", given, weight_decay=None, precondition_frequency=4)
    # The port factorizes in float32.
    assert trajectory.distance(found, expected) < 1e-4


@pytest.mark.parametrize("scale_type", ["channel", "tensor"])
def test_apollo_takes_the_steps_of_its_authors(scale_type, monkeypatch):
    apollo = authors_apollo(monkeypatch)
    weights, gradients = steps.stream([(5, 8), (8, 5)], steps=25)
    given = [w.T for w in weights], [[g.T for g in step] for step in gradients]
    torch = pytest.importorskip("torch")

    def make(parameters, lr):
        group = {
            "params": parameters,
            "rank": 2,
            "update_proj_gap": 10,
            "scale": 4.0,
            "proj": "random",
            "proj_type": "std",
            "scale_type": scale_type,
        }
        return apollo.AdamW([group], lr=lr, weight_decay=0.0)

    # The authors draw other numbers: both get the same projections, kopt's.
    drawn = iter(
        torch.tensor(draw(2, 5, round_of, position) * np.sqrt(2))
        for round_of in range(3)
        for position in range(2)
    )

    def next_drawn(shape, **options):
        projection = next(drawn)
        return projection if projection.shape == shape else projection.T

    projector = sys.modules["apollo_torch.random_projector"]
    monkeypatch.setattr(projector, "stable_randn", next_drawn)
    expected = [w.T for w in steps.with_torch(make, given)]
    found = steps.with_kopt(
        "APOLLO",
        (weights, gradients),
        rank=2,
        update_gap=10,
        scale=4.0,
        scale_type=scale_type,
    )
    assert trajectory.distance(found, expected) < 1e-10


def draw(rank, length, round_of, position):
    bits = tf.random.stateless_uniform(
        (rank, length), [round_of, position], None, None, tf.uint32, "philox"
    )
    return scipy.special.ndtri((bits.numpy() // 256 + 0.5) / 2**24) / np.sqrt(rank)


def authors_apollo(monkeypatch):
    """The authors' module, without what their package loads and it does not need."""
    versions = types.ModuleType("transformers.utils.versions")
    versions.require_version = lambda *arguments: None
    monkeypatch.setitem(sys.modules, "transformers.utils.versions", versions)
    for name in ("transformers", "transformers.utils"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    found = importlib.util.find_spec("apollo_torch")
    if found is None:
        pytest.skip("needs apollo_torch")
    package = types.ModuleType("apollo_torch")
    package.__path__ = list(found.submodule_search_locations)
    monkeypatch.setitem(sys.modules, "apollo_torch", package)
    return importlib.import_module("apollo_torch.apollo")
