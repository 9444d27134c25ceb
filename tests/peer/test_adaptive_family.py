"""Methods with a step length of their own, against other libraries, in float64.

Where a library puts `epsilon` elsewhere, both run with 1e-30, and the place does not
matter. Rates are constant, since the peers keep the rate out of the momentum.
"""

import functools

import keras
import numpy as np
import pytest

import kopt
from tests.peer import steps
from tests.reference.optimizers import trajectory

pytestmark = [pytest.mark.peer, pytest.mark.slow]

RATE = steps.RATE
TINY = 1e-30

#: Shapes of two axes and more, for peers that treat others in a way of their own.
MATRICES = ((5, 3), (3, 3, 4, 6))


def distance(expected, name, given=None, **arguments):
    """How far kopt's weights are from a peer's after the stream."""
    return trajectory.distance(steps.with_kopt(name, given, **arguments), expected)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_optax_takes_the_same_lamb_steps(weight_decay):
    optax = pytest.importorskip("optax")
    expected = steps.with_optax(
        lambda: optax.lamb(RATE, eps=1e-6, weight_decay=weight_decay)
    )
    own = {"epsilon": 1e-6, "weight_decay": weight_decay}
    assert distance(expected, "LAMB", **own) < 1e-10


def test_keras_takes_the_same_lamb_steps_without_decay():
    # With decay, Keras takes it off outside the trust ratio.
    keras.backend.set_floatx("float64")
    weights, gradients = steps.stream()
    variables = [keras.Variable(w, dtype="float64") for w in weights]
    optimizer = keras.optimizers.Lamb(RATE)
    optimizer.build(variables)
    for gradient in gradients:
        optimizer.apply([keras.ops.array(g, "float64") for g in gradient], variables)
    assert distance([v.numpy() for v in variables], "LAMB") < 1e-10


@pytest.mark.parametrize("nesterov", [False, True])
def test_optax_takes_the_same_lars_steps(nesterov):
    # With decay, optax divides by the norm of the sum of gradient and decay.
    optax = pytest.importorskip("optax")
    expected = steps.with_optax(
        lambda: optax.lars(RATE, trust_coefficient=0.1, nesterov=nesterov)
    )
    own = {"trust_coefficient": 0.1, "nesterov": nesterov}
    assert distance(expected, "LARS", **own) < 1e-10


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_pytorch_optimizer_takes_the_same_lars_steps(weight_decay):
    # It never adapts variables of one axis.
    peer = pytest.importorskip("pytorch_optimizer")
    arguments = {"trust_coefficient": 0.1, "weight_decay": weight_decay}
    given = steps.stream(shapes=MATRICES)
    expected = steps.with_torch(functools.partial(peer.LARS, **arguments), given)
    assert distance(expected, "LARS", given, **arguments) < 1e-10


@pytest.mark.parametrize(
    "arguments",
    [
        {"min_dim_size_to_factor": 128},
        {"min_dim_size_to_factor": 2},
        {"min_dim_size_to_factor": 2, "momentum": 0.9, "decay_rate": 0.6},
        {"min_dim_size_to_factor": 2, "multiply_by_parameter_scale": False},
    ],
    ids=["full", "factored", "momentum", "unscaled"],
)
def test_optax_takes_the_same_adafactor_steps(arguments):
    # `optax.adafactor` put together from its parts, since the whole computes the decay
    # and keeps the momentum in float32. Its weight decay leaves out the learning rate.
    optax = pytest.importorskip("optax")
    momentum = arguments.get("momentum")
    expected = steps.with_optax(
        lambda: optax.chain(
            optax.scale_by_factored_rms(
                decay_rate=arguments.get("decay_rate", 0.8),
                min_dim_size_to_factor=arguments["min_dim_size_to_factor"],
                decay_rate_fn=lambda step, rate: 1 - (step + 1.0) ** -rate,
            ),
            optax.clip_by_block_rms(1.0),
            optax.scale(RATE),
            optax.scale_by_param_block_rms()
            if arguments.get("multiply_by_parameter_scale", True)
            else optax.identity(),
            optax.ema(momentum, debias=False) if momentum else optax.identity(),
            optax.scale(-1),
        )
    )
    own = {
        "relative_step": False,
        "min_dim_size_to_factor": arguments["min_dim_size_to_factor"],
        "beta_1": arguments.get("momentum"),
        "beta_2_decay": -arguments.get("decay_rate", 0.8),
        "scale_parameter": arguments.get("multiply_by_parameter_scale", True),
    }
    assert distance(expected, "Adafactor", **own) < 1e-10


@pytest.mark.parametrize("learning_rate", [RATE, 0.5])
def test_torch_takes_the_same_adafactor_steps(learning_rate):
    # Its first epsilon is a lower bound of the second moment, not a summand.
    torch = pytest.importorskip("torch")
    make = functools.partial(
        torch.optim.Adafactor, eps=(TINY, 1e-3), d=1.2, weight_decay=0.1
    )
    expected = steps.with_torch(make, learning_rate=learning_rate)
    own = {
        "learning_rate": learning_rate,
        "epsilon_1": TINY,
        "clip_threshold": 1.2,
        "weight_decay": 0.1,
        "min_dim_size_to_factor": 1,
    }
    assert distance(expected, "Adafactor", **own) < 1e-10


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_optax_takes_the_same_ademamix_steps(weight_decay):
    optax = pytest.importorskip("optax")
    own = {"alpha": 8.0, "epsilon": 1e-8, "weight_decay": weight_decay}
    expected = steps.with_optax(
        lambda: optax.contrib.ademamix(RATE, alpha=8.0, weight_decay=weight_decay)
    )
    assert distance(expected, "AdEMAMix", **own) < 1e-10


@pytest.mark.parametrize("warmup", [None, 10, 100])
def test_pytorch_optimizer_takes_the_same_ademamix_steps(warmup):
    peer = pytest.importorskip("pytorch_optimizer")
    make = functools.partial(
        peer.AdEMAMix, betas=(0.9, 0.999, 0.99), t_alpha_beta3=warmup
    )
    own = {"beta_3": 0.99, "alpha_warmup": warmup, "beta_3_warmup": warmup}
    assert distance(steps.with_torch(make), "AdEMAMix", **own) < 1e-10


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_optax_takes_the_same_adopt_steps(weight_decay):
    optax = pytest.importorskip("optax")
    expected = steps.with_optax(
        lambda: optax.chain(
            optax.contrib.scale_by_adopt(),
            optax.add_decayed_weights(weight_decay),
            optax.scale_by_learning_rate(RATE),
        )
    )
    assert distance(expected, "ADOPT", weight_decay=weight_decay) < 1e-10


@pytest.mark.parametrize("exponent", [0.25, None])
def test_pytorch_optimizer_takes_the_same_adopt_steps(exponent):
    # By default it clips with a count that is one ahead of the paper's.
    peer = pytest.importorskip("pytorch_optimizer")
    clip = None if exponent is None else lambda step: (step - 1) ** exponent
    make = functools.partial(
        peer.ADOPT, clip_lambda=clip, weight_decay=0.1, weight_decouple=True
    )
    own = {"clip_exponent": exponent, "weight_decay": 0.1}
    assert distance(steps.with_torch(make), "ADOPT", **own) < 1e-10


@pytest.mark.parametrize("one_axis_too", [False, True])
def test_pytorch_optimizer_takes_the_same_mars_steps(one_axis_too, monkeypatch):
    # It adds epsilon to the uncorrected root, and always 1e-15 under it.
    peer = pytest.importorskip("pytorch_optimizer")
    divisor = staticmethod(lambda bounded, v, largest, epsilon: v.sqrt())
    monkeypatch.setattr(peer.MARS, "apply_ams_bound", divisor)
    make = functools.partial(
        peer.MARS,
        foreach=False,
        lr_1d=RATE,
        weight_decay=0.1,
        weight_decay_1d=0.1,
        optimize_1d=one_axis_too,
    )
    own = {"epsilon": TINY, "weight_decay": 0.1, "optimize_1d": one_axis_too}
    assert distance(steps.with_torch(make), "MARS", **own) < 1e-10


@pytest.mark.parametrize("library", ["came_pytorch", "pytorch_optimizer"])
def test_others_take_the_same_came_steps(library):
    # They factor the last two axes, which in the stream are the longest.
    peer = pytest.importorskip(library)
    make = functools.partial(peer.CAME, clip_threshold=0.8, weight_decay=0.1)
    own = {"clip_threshold": 0.8, "weight_decay": 0.1}
    assert distance(steps.with_torch(make), "CAME", **own) < 1e-10


#: Random gradients say nothing of a distance; with these, the estimate grows anyway.
GROWING = {"d0": 4.0, "d_coef": 8000.0, "beta3": 0.5, "betas": (0.8, 0.95)}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"growth_rate": 1.1, "weight_decay": 0.1},
        {"use_bias_correction": True, "safeguard_warmup": True, "eps": 1e-3},
    ],
    ids=["plain", "limited", "corrected"],
)
def test_prodigyopt_takes_the_same_steps(more):
    peer = pytest.importorskip("prodigyopt")
    make = functools.partial(peer.Prodigy, **GROWING, **more)
    assert distance(steps.with_torch(make), "Prodigy", **kopt_prodigy(more)) < 1e-10


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_optax_takes_the_same_prodigy_steps(weight_decay):
    # It always corrects the bias, and has no limit of growth.
    optax = pytest.importorskip("optax")
    expected = steps.with_optax(
        lambda: optax.contrib.prodigy(
            RATE,
            betas=GROWING["betas"],
            beta3=GROWING["beta3"],
            estim_lr0=GROWING["d0"],
            estim_lr_coef=GROWING["d_coef"],
            weight_decay=weight_decay,
        )
    )
    own = kopt_prodigy({"use_bias_correction": True, "weight_decay": weight_decay})
    assert distance(expected, "Prodigy", **own) < 1e-10


def kopt_prodigy(more):
    """The arguments of prodigyopt under kopt's names."""
    given = {**GROWING, **more}
    given["beta_1"], given["beta_2"] = given.pop("betas")
    given["beta_3"] = given.pop("beta3")
    given["epsilon"] = given.pop("eps", 1e-8)
    return given


def test_prodigyopt_finds_the_same_distance_in_a_bowl():
    torch = pytest.importorskip("torch")
    peer = pytest.importorskip("prodigyopt")
    keras.backend.set_floatx("float64")
    steepness = np.linspace(0.1, 3.0, 12)
    tensor = torch.nn.Parameter(torch.zeros(12, dtype=torch.float64))
    variable = keras.Variable(np.zeros(12), dtype="float64")
    other, own = peer.Prodigy([tensor]), kopt.Prodigy()
    for _ in range(60):
        tensor.grad = torch.tensor(steepness) * (tensor.detach() - 1)
        other.step()
        own.apply([steepness * (variable - 1)], [variable])
    found = float(own.shared_state["d"].numpy())
    # From 1e-6 to nearly the distance, 1 for each weight.
    assert 0.1 < found < 1
    assert found == pytest.approx(other.param_groups[0]["d"], rel=1e-10)
    assert trajectory.distance([variable.numpy()], [tensor.detach().numpy()]) < 1e-10
