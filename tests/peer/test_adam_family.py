"""Adagrad and Adam's relatives against other libraries, over the same gradients.

In float64. Where a peer adds `epsilon` in another place than kopt, it is 1e-30, and the
place does not matter. Peers without a constant in the accumulator start from 0.
"""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from tests.peer import steps
from tests.reference.optimizers import trajectory

pytestmark = [pytest.mark.peer, pytest.mark.slow]

RATE = steps.RATE
TINY = 1e-30

#: kopt's name and arguments, the peer's package, and its twin.
TORCH = {
    # Adds epsilon to the root.
    "Adagrad": (
        {"epsilon": TINY},
        "torch",
        lambda torch: functools.partial(
            torch.optim.Adagrad, initial_accumulator_value=0.1, eps=TINY
        ),
    ),
    "NAdamW": (
        {"epsilon": 1e-3, "weight_decay": 0.1},
        "torch",
        lambda torch: functools.partial(
            torch.optim.NAdam, eps=1e-3, weight_decay=0.1, decoupled_weight_decay=True
        ),
    ),
    "NAdamW with a faster schedule": (
        {"epsilon": 1e-3, "weight_decay": None, "momentum_decay": 0.3},
        "torch",
        lambda torch: functools.partial(
            torch.optim.NAdam, eps=1e-3, momentum_decay=0.3
        ),
    ),
    "StableAdamW": (
        {"epsilon": 1e-3, "weight_decay": 0.1},
        "optimi",
        lambda optimi: functools.partial(
            optimi.StableAdamW, eps=1e-3, weight_decay=0.1, triton=False
        ),
    ),
    "StableAdamW as pytorch_optimizer has it": (
        {"beta_1": 0.8, "beta_2": 0.95, "weight_decay": 0.1},
        "pytorch_optimizer",
        lambda po: functools.partial(
            po.StableAdamW, betas=(0.8, 0.95), weight_decay=0.1, kahan_sum=False
        ),
    ),
    "RAdam": (
        {"epsilon": 1e-3, "weight_decay": 0.1},
        "torch",
        lambda torch: functools.partial(
            torch.optim.RAdam, eps=1e-3, weight_decay=0.1, decoupled_weight_decay=True
        ),
    ),
    "RAdam with a shorter memory": (
        {"beta_1": 0.8, "beta_2": 0.95},
        "torch",
        lambda torch: functools.partial(torch.optim.RAdam, betas=(0.8, 0.95)),
    ),
    "RAdam with a memory that is always too short": (
        {"beta_2": 0.6},
        "torch",
        lambda torch: functools.partial(torch.optim.RAdam, betas=(0.9, 0.6)),
    ),
    "AdaBelief": (
        {"epsilon": 1e-4, "weight_decay": 0.1},
        "pytorch_optimizer",
        lambda po: functools.partial(po.AdaBelief, eps=1e-4, weight_decay=0.1),
    ),
    "AdaBelief rectified": (
        {"epsilon": 1e-4, "rectify": True},
        "pytorch_optimizer",
        lambda po: functools.partial(po.AdaBelief, eps=1e-4, rectify=True),
    ),
    # Starts the momentum, too, from `initial_accumulator`, and adds epsilon to the
    # corrected root.
    "Yogi": (
        {"epsilon": TINY, "initial_accumulator_value": 0.0, "weight_decay": 0.1},
        "pytorch_optimizer",
        lambda po: functools.partial(
            po.Yogi, eps=TINY, initial_accumulator=0.0, weight_decay=0.1
        ),
    ),
    "NovoGrad": (
        {"epsilon": 1e-3, "weight_decay": 0.1},
        "pytorch_optimizer",
        lambda po: functools.partial(
            po.NovoGrad, eps=1e-3, weight_decay=0.1, weight_decouple=False
        ),
    ),
    "Adan": (
        {"epsilon": 1e-3, "weight_decay": 0.1},
        "pytorch_optimizer",
        lambda po: functools.partial(
            po.Adan, eps=1e-3, weight_decay=0.1, weight_decouple=False
        ),
    ),
    "Adan without decay": (
        {"beta_1": 0.9, "beta_2": 0.7, "beta_3": 0.95},
        "optimi",
        lambda optimi: functools.partial(
            optimi.Adan, betas=(0.9, 0.7, 0.95), eps=1e-8, weight_decay=0, triton=False
        ),
    ),
}

OPTAX = {
    "Adagrad": (
        {"epsilon": 1e-3, "initial_accumulator_value": 0.2},
        lambda optax: optax.adagrad(RATE, initial_accumulator_value=0.2, eps=1e-3),
    ),
    "NAdamW without a schedule": (
        {"epsilon": 1e-3, "weight_decay": 0.1, "momentum_decay": None},
        lambda optax: optax.nadamw(RATE, eps=1e-3, weight_decay=0.1),
    ),
    # Adds epsilon to the corrected root.
    "RAdam": ({"epsilon": TINY}, lambda optax: optax.radam(RATE, eps=TINY)),
    "AdaBelief": (
        {"epsilon": 1e-4},
        lambda optax: optax.adabelief(RATE, eps=1e-4, eps_root=1e-4),
    ),
    # Starts the momentum, too, from the accumulator's value, and adds epsilon to the
    # corrected root.
    "Yogi": (
        {"epsilon": TINY, "initial_accumulator_value": 0.0},
        lambda optax: optax.chain(
            optax.scale_by_yogi(eps=TINY, initial_accumulator_value=0.0),
            optax.scale_by_learning_rate(RATE),
        ),
    ),
    "NovoGrad": (
        {"beta_2": 0.25, "epsilon": 1e-3, "weight_decay": 0.1},
        lambda optax: optax.novograd(RATE, b1=0.95, eps=1e-3, weight_decay=0.1),
    ),
    # Weighs differences by `1 - b2` and not by `b2`: one half is the same.
    "Adan": (
        {"beta_2": 0.5, "epsilon": 1e-3},
        lambda optax: optax.adan(RATE, b2=0.5, eps=1e-3, eps_root=0.0),
    ),
}


@pytest.fixture
def scalars_in_float64():
    """NAdam keeps the product of its momenta in torch's default type."""
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("scalars_in_float64")
@pytest.mark.parametrize("title", TORCH)
def test_a_torch_optimizer_takes_the_same_steps(title):
    arguments, package, twin = TORCH[title]
    expected = steps.with_torch(twin(pytest.importorskip(package)))
    assert trajectory.distance(own(title, arguments), expected) < 1e-10


@pytest.mark.parametrize("title", OPTAX)
def test_optax_takes_the_same_steps(title):
    arguments, twin = OPTAX[title]
    optax = pytest.importorskip("optax")
    expected = steps.with_optax(lambda: twin(optax))
    assert trajectory.distance(own(title, arguments), expected) < 1e-10


@pytest.mark.parametrize(
    ("title", "arguments", "twin", "tolerance"),
    [
        # One that is exact in float32, where Keras starts its accumulators.
        (
            "Adagrad",
            {"epsilon": 1e-3, "initial_accumulator_value": 0.125},
            functools.partial(
                keras.optimizers.Adagrad, initial_accumulator_value=0.125
            ),
            1e-10,
        ),
        # Without the factor 0.004 of the schedule; Keras rounds betas to float32.
        (
            "NAdamW as Keras's Nadam",
            {"epsilon": 1e-3, "weight_decay": 0.1, "momentum_decay": 1.0},
            functools.partial(keras.optimizers.Nadam, weight_decay=0.1),
            1e-7,
        ),
    ],
)
def test_keras_takes_the_same_steps(title, arguments, twin, tolerance):
    found = own(title, arguments)
    weights, gradients = steps.stream()
    variables = [keras.Variable(w, dtype="float64") for w in weights]
    optimizer = twin(learning_rate=RATE, epsilon=1e-3)
    for gradient in gradients:
        optimizer.apply([tf.constant(g) for g in gradient], variables)
    expected = [variable.numpy() for variable in variables]
    assert trajectory.distance(found, expected) < tolerance


def own(title, arguments):
    return steps.with_kopt(title.split()[0], **arguments)


def test_torchs_sparse_adam_takes_the_steps_of_lazy_adam():
    torch = pytest.importorskip("torch")
    keras.backend.set_floatx("float64")
    generator = np.random.default_rng(7)
    table = generator.normal(size=(9, 4))
    batches = [
        (generator.integers(0, 9, size=5), generator.normal(size=(5, 4)))
        for _ in range(20)
    ]
    assert any(len(set(rows)) < 5 for rows, _ in batches)
    variable = keras.Variable(table, dtype="float64")
    optimizer = kopt.LazyAdam(RATE, epsilon=1e-3)
    tensor = torch.nn.Parameter(torch.tensor(table))
    twin = torch.optim.SparseAdam([tensor], lr=RATE, eps=1e-3)
    for rows, values in batches:
        gradient = tf.IndexedSlices(
            tf.constant(values), tf.constant(rows), tf.constant([9, 4])
        )
        optimizer.apply([gradient], [variable])
        tensor.grad = torch.sparse_coo_tensor(
            torch.tensor(rows)[None],
            torch.tensor(values),
            (9, 4),
            check_invariants=True,
        )
        twin.step()
    expected = tensor.detach().numpy()
    assert np.max(np.abs(expected - table)) > 0.1
    assert trajectory.distance([variable.numpy()], [expected]) < 1e-10
