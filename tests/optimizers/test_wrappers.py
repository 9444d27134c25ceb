"""What single wrappers do beside what all of them do."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt


def steps(optimizer, variables, count=5):
    for step in range(count):
        gradients = [tf.ones(v.shape) * (step + 1) for v in variables]
        optimizer.apply(gradients, variables)
    return [variable.numpy() for variable in variables]


schedules = keras.optimizers.schedules


@pytest.mark.parametrize(
    "schedule",
    [
        schedules.CosineDecay(0.1, 100),
        schedules.CosineDecay(0.0, 100, warmup_target=0.1, warmup_steps=10),
        schedules.PiecewiseConstantDecay([5000], [0.1, 0.01]),
        schedules.ExponentialDecay(0.1, 10_000, 0.9),
        kopt.schedules.Warmup(kopt.schedules.Cosine(0.1, 1000), 50),
    ],
    ids=lambda schedule: type(schedule).__name__,
)
def test_schedule_free_refuses_a_schedule_that_decays(schedule):
    with pytest.raises(ValueError, match="decays makes no sense under ScheduleFree"):
        kopt.ScheduleFree(kopt.SGD(schedule))
    with pytest.raises(ValueError, match=r"learning_rate=0\.\d+, or"):
        kopt.ScheduleFreeAdamW(schedule)
    optimizer = kopt.ScheduleFree(kopt.SGD(kopt.schedules.Warmup(0.1, 5)))
    with pytest.raises(ValueError, match="Give the inner optimizer a constant rate"):
        optimizer.learning_rate = schedule


def test_schedule_free_takes_a_schedule_that_only_rises():
    schedule = kopt.schedules.Warmup(0.1, 20)
    assert kopt.ScheduleFreeSGD(schedule).inner_optimizer.learning_rate is not None


@pytest.mark.parametrize("built", [True, False])
@pytest.mark.parametrize("wrapper", [kopt.ScheduleFree, kopt.Lookahead, kopt.Mechanic])
def test_set_weights_brings_another_to_the_same_place(wrapper, built):
    one = wrapper(kopt.SGD(0.1, momentum=0.9)), [keras.Variable([1.0, 2.0])]
    steps(*one)
    other = wrapper(kopt.SGD(0.1, momentum=0.9)), [keras.Variable(one[1][0])]
    if built:
        other[0].build(other[1])
        with pytest.raises(ValueError, match="Nothing was set"):
            other[0].set_weights([])
    # Before the optimizer is built they wait for it.
    other[0].set_weights([variable.numpy() for variable in one[0].variables])
    np.testing.assert_array_equal(steps(*one), steps(*other))


@pytest.mark.parametrize(
    "inner",
    [
        lambda: kopt.Lookahead(kopt.SGD()),
        lambda: kopt.WeightAverage(kopt.SGD()),
    ],
)
def test_schedule_free_refuses_an_average_inside(inner):
    with pytest.raises(ValueError, match="ScheduleFree evaluates at an average"):
        kopt.ScheduleFree(inner())


def test_an_average_around_schedule_free_is_refused():
    with pytest.raises(ValueError, match="Leave WeightAverage out: ScheduleFreeAdamW"):
        kopt.WeightAverage(kopt.ScheduleFreeAdamW())


def test_two_averages_are_refused():
    with pytest.raises(ValueError, match="averages twice"):
        kopt.WeightAverage(kopt.WeightAverage(kopt.SGD()))


@pytest.mark.parametrize("name", ["Lookahead", "WeightAverage", "Mechanic"])
def test_momentum_sam_stands_outside(name):
    with pytest.raises(ValueError, match=rf"kopt.MomentumSAM.kopt.{name}"):
        getattr(kopt, name)(kopt.MomentumSAM(kopt.Adam()))


def test_mechanic_stands_inside():
    with pytest.raises(ValueError, match=r"kopt\.Lookahead\(kopt\.Mechanic\("):
        kopt.Mechanic(kopt.Lookahead(kopt.SGD()))
    assert kopt.Lookahead(kopt.Mechanic(kopt.SGD(1.0)))


@pytest.mark.parametrize(
    "inner", [lambda: kopt.SGD(0.1), lambda: keras.optimizers.SGD(0.1)]
)
def test_momentum_sam_needs_momentum(inner):
    optimizer = kopt.MomentumSAM(inner())
    with pytest.raises(ValueError, match=r"kopt\.SGD\(0\.1, momentum=0\.9\)"):
        optimizer.build([keras.Variable([1.0])])


@pytest.mark.parametrize(
    "inner",
    [
        lambda: kopt.SGD(0.1, momentum=0.9),
        lambda: keras.optimizers.SGD(0.1, momentum=0.9),
        lambda: kopt.Adam(0.1),
        lambda: keras.optimizers.Adam(0.1),
        lambda: kopt.Lion(0.1),
        lambda: keras.optimizers.RMSprop(0.1, momentum=0.9),
        lambda: kopt.RMSprop(0.1, momentum=0.9),
        lambda: kopt.Mechanic(kopt.AdamW(0.1)),
    ],
)
def test_momentum_sam_looks_ahead_by_rho(inner):
    variables = [keras.Variable(np.ones((2, 2))), keras.Variable(np.ones(3))]
    optimizer = kopt.MomentumSAM(inner(), rho=0.5)
    trained = np.concatenate([v.ravel() for v in steps(optimizer, variables)])
    optimizer.swap_to_eval()
    own = np.concatenate([v.numpy().ravel() for v in variables])
    # All gradients are positive, so ahead is down.
    assert np.all(trained < own)
    assert np.linalg.norm(own - trained) == pytest.approx(0.5, rel=1e-5)


def test_only_the_outer_of_two_wrappers_decides_where_to_evaluate():
    variable = keras.Variable([1.0])
    inner = kopt.Lookahead(kopt.SGD(0.1), sync_period=4)
    optimizer = kopt.WeightAverage(inner)
    path = []
    for _ in range(3):
        optimizer.apply([tf.ones(1)], [variable])
        path.append(variable.numpy())
    optimizer.swap_to_eval()
    np.testing.assert_allclose(variable.numpy(), np.mean(path, axis=0), rtol=1e-6)
    optimizer.swap_to_train()
    np.testing.assert_array_equal(variable.numpy(), path[-1])


def test_an_average_inside_momentum_sam_is_where_it_evaluates():
    variable = keras.Variable([1.0])
    inner = kopt.WeightAverage(kopt.SGD(0.1, momentum=0.5))
    optimizer = kopt.MomentumSAM(inner, rho=0.2)
    plain = keras.Variable([1.0])
    twin = kopt.WeightAverage(kopt.SGD(0.1, momentum=0.5))
    for _ in range(4):
        optimizer.apply([tf.ones(1)], [variable])
        twin.apply([tf.ones(1)], [plain])
    trained = variable.numpy()
    optimizer.swap_to_eval()
    twin.swap_to_eval()
    np.testing.assert_allclose(variable.numpy(), plain.numpy(), rtol=1e-6)
    # A step from there first goes back through both.
    optimizer.swap_to_train()
    np.testing.assert_array_equal(variable.numpy(), trained)
    optimizer.swap_to_eval()
    optimizer.apply([tf.zeros(1)], [variable])
    optimizer.swap_to_eval()
    twin.apply([tf.zeros(1)], [plain])
    twin.swap_to_eval()
    np.testing.assert_allclose(variable.numpy(), plain.numpy(), rtol=1e-6)


def test_an_average_that_has_not_started_leaves_the_weights():
    variable = keras.Variable([1.0])
    optimizer = kopt.WeightAverage(kopt.SGD(0.1), start=10)
    (trained,) = steps(optimizer, [variable])
    optimizer.finalize()
    np.testing.assert_array_equal(variable.numpy(), trained)


def test_schedule_free_decays_as_the_groups_of_its_inner_optimizer_say():
    options = {
        "excluded_from_weight_decay": [0],
        "param_groups": [
            kopt.ParamGroup(match="frozen", frozen=True),
            kopt.ParamGroup(match="slow", learning_rate_multiplier=0.5),
            kopt.ParamGroup(match="bare", weight_decay=0.0),
        ],
    }
    names = ["excluded", "frozen", "slow", "bare", "all"]
    variables = [keras.Variable([1.0], name=name) for name in names]
    optimizer = kopt.ScheduleFreeSGD(0.1, weight_decay=0.5, **options)
    optimizer.apply([tf.zeros(1)] * 5, variables)
    found = np.concatenate([optimizer.state(v)["z"].numpy() for v in variables])
    np.testing.assert_allclose(found, [1, 1, 1 - 0.025, 1, 1 - 0.05], rtol=1e-6)


@pytest.mark.parametrize("make", [kopt.ScheduleFreeAdamW, kopt.ScheduleFreeSGD])
def test_a_preset_restores_groups_and_warm_up(make):
    group = kopt.ParamGroup(match="a", learning_rate_multiplier=0.5)
    optimizer = make(0.1, warmup_steps=4, param_groups=[group], clipnorm=1.0)
    config = optimizer.get_config()
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(optimizer)
    )
    assert again.get_config() == config
    assert config["warmup_steps"] == 4 and config["learning_rate"] == 0.1
    assert again.inner_optimizer.clipnorm == 1.0
    assert again.inner_optimizer.param_groups[0].learning_rate_multiplier == 0.5


@pytest.mark.parametrize("name", ["ScheduleFreeAdamW", "ScheduleFreeSGD"])
def test_a_preset_goes_into_compile_by_its_registered_name(name):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(f"kopt>{name}", "mse")
    assert isinstance(model.optimizer, getattr(kopt, name))


@pytest.mark.thorough
def test_mechanic_finds_the_scale_of_a_problem():
    # The same valley, a thousand times as wide: so are the steps it takes.
    for width in (1.0, 1000.0):
        variable = keras.Variable([width, -width])
        optimizer = kopt.Mechanic(kopt.Adam(1.0))
        for _ in range(400):
            optimizer.apply([variable.value], [variable])
        assert np.linalg.norm(variable.numpy()) < 0.1 * width


def test_fit_schedule_finds_the_count_and_the_rate_of_a_wrapped_optimizer():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(kopt.Lookahead(kopt.SGD(0.5)), "mse")
    schedule = kopt.callbacks.FitSchedule(
        kopt.schedules.Cosine(0.1, steps=8), total_steps=8
    )
    x = np.ones((8, 2), "float32")
    rates = []
    for _ in range(2):
        history = model.fit(
            x, x[:, :1], batch_size=2, verbose=0, callbacks=[schedule]
        ).history
        rates += history["learning_rate"]
    expected = [float(kopt.schedules.Cosine(0.1, steps=8)(step)) for step in (3, 7)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_momentum_sam_finds_the_momentum_of_variables_of_one_name():
    variables = [keras.Variable([1.0, 1.0], name="kernel") for _ in range(2)]
    optimizer = kopt.MomentumSAM(kopt.SGD(0.1, momentum=0.9), rho=1.0)
    gradients = [[3.0, 0.0], [0.0, 4.0]]
    optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients], variables)
    # One step down, and from there one of length 1 along the steps: (3, 4) / 5.
    found = [variable.numpy() for variable in variables]
    np.testing.assert_allclose(found, [[0.7 - 0.6, 1.0], [1.0, 0.6 - 0.8]], atol=1e-6)


@pytest.mark.parametrize(
    ("make", "earlier"),
    [
        (
            lambda: kopt.WeightAverage(kopt.SGD(0.1), start=1),
            lambda store: {"count": np.array(4.0)},  # of the five steps
        ),
        (lambda: kopt.Lookahead(kopt.SGD(0.1), sync_period=3), lambda store: {}),
        (
            lambda: kopt.ScheduleFree(kopt.SGD(0.1)),
            lambda store: {"weight_sum": store["weight_sum"][0]},
        ),
    ],
)
def test_a_state_of_before_each_variable_counted_its_steps_is_read(make, earlier):
    runs = []
    for loads in (False, True):
        variables = [keras.Variable([1.0, 2.0]), keras.Variable([3.0])]
        optimizer = make()
        steps(optimizer, variables)
        if loads:
            store = {}
            optimizer.save_own_variables(store)
            counters = set(optimizer.counters())
            old = {k: v for k, v in store.items() if k not in counters}
            other = make()
            other.build(variables)
            other.load_own_variables({**old, **earlier(store)})
            other.inner_optimizer.batches.assign(5)
            optimizer = other
        trained = steps(optimizer, variables, count=4)
        optimizer.swap_to_eval()
        runs.append([*trained, *[variable.numpy() for variable in variables]])
    for one, two in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, two)
