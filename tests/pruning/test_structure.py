"""Whole filters, units and heads are pruned, so that they can be taken out."""

import keras
import numpy as np
import pytest

from kopt import pruning
from kopt.pruning import prune_low_magnitude, remove_filters
from kopt.pruning._units import UnitLayout, UnitPattern
from tests.pruning.channel_nets import layers, same_outputs, unlike, widths
from tests.pruning.nets import at_once, growing, sparsities, steps
from tests.pruning.test_removal import conv, head, model_of, residual
from tests.pruning.test_saving import in_a_fresh_process, same_weights


def chain(x):
    """Two convolutions that can lose filters, a normalization and a head."""
    x = layers.BatchNormalization(name="bn")(conv("first", 8)(x))
    return head(conv("second", 6)(layers.ReLU()(x)))


def pruned(build=chain, schedule=None, shape=(6, 6, 2), **arguments):
    keras.utils.set_random_seed(1)
    arguments = {"structure": "filters", **arguments}
    return prune_low_magnitude(
        model_of(shape, build), schedule or at_once(), **arguments
    )


def data(model, samples=24):
    random = np.random.default_rng(3)
    x = random.normal(size=(samples, *model.inputs[0].shape[1:]))
    return x.astype("float32"), random.normal(
        size=(samples, *model.outputs[0].shape[1:])
    )


def train(model, epochs=2, **compile_arguments):
    """Train without shuffling, six steps an epoch."""
    if compile_arguments or not model.compiled:
        compile_arguments = {
            "optimizer": keras.optimizers.Adam(0.05),
            **compile_arguments,
        }
        model.compile(loss="mse", **compile_arguments)
    x, y = data(model)
    model.fit(x, y, batch_size=4, epochs=epochs, shuffle=False, verbose=0)
    return model


def empty_filters(model, name):
    """Which filters of a layer are zero."""
    kernel = model.get_layer(name).kernel.numpy()
    return (kernel == 0).all(tuple(range(kernel.ndim - 1)))


def removed_after(model):
    smaller = remove_filters(model)
    same_outputs(model, smaller)
    return smaller


def test_the_share_of_filters_of_each_layer_is_the_schedules():
    model = pruned(schedule=at_once(0.25))
    # Of six filters 4.5 would stay; halves round to the even number.
    assert [empty_filters(model, n).sum() for n in ("first", "second")] == [2, 2]
    assert not empty_filters(model, "out").any()


def test_the_filters_of_the_smallest_norm_go():
    model = model_of((6, 6, 2), chain)
    norms = np.linalg.norm(
        model.get_layer("first").kernel.numpy().reshape(-1, 8), axis=0
    )
    prune_low_magnitude(model, at_once(), structure="filters")
    expected = np.isin(np.arange(8), np.argsort(norms)[:4])
    np.testing.assert_array_equal(empty_filters(model, "first"), expected)


@pytest.fixture(scope="module")
def trained():
    """A chain that was pruned while it trained."""
    return train(pruned(schedule=growing(end_step=5)))


def test_what_was_pruned_in_training_can_be_taken_out(trained):
    assert widths(removed_after(trained), "first", "second") == [4, 3]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"jit_compile": True},
        {"optimizer": keras.optimizers.SGD(0.1, 0.9, gradient_accumulation_steps=2)},
        {"optimizer": keras.optimizers.AdamW(0.05, weight_decay=0.1, use_ema=True)},
    ],
)
def test_what_was_pruned_in_any_training_can_be_taken_out(options):
    if "optimizer" in options:
        kind = options["optimizer"]
        options = {"optimizer": type(kind).from_config(kind.get_config())}
    model = train(pruned(schedule=growing(end_step=5)), **options)
    assert widths(removed_after(model), "first", "second") == [4, 3]


def test_biases_and_normalization_are_pruned_with_the_filters(trained):
    gone = empty_filters(trained, "first")
    bn = trained.get_layer("bn")
    for variable in (trained.get_layer("first").bias, bn.gamma, bn.beta):
        np.testing.assert_array_equal(variable.numpy() == 0, gone)


def test_without_a_scale_the_mean_becomes_zero_as_well():
    def build(x):
        x = layers.BatchNormalization(scale=False, name="bn")(conv("first", 8)(x))
        return head(conv("second", 6)(layers.ReLU()(x)))

    model = train(pruned(build, schedule=growing(end_step=5)), epochs=1)
    gone = empty_filters(model, "first")
    np.testing.assert_array_equal(model.get_layer("bn").moving_mean == 0, gone)
    assert widths(removed_after(model), "first") == [4]


def test_channels_that_are_added_share_a_mask():
    model = pruned(residual)
    gone = empty_filters(model, "stem")
    np.testing.assert_array_equal(empty_filters(model, "outer"), gone)
    assert gone.sum() == 2
    assert widths(removed_after(model), "stem", "inner", "outer") == [2, 2, 2]


def test_a_global_budget_takes_more_from_layers_with_smaller_weights():
    model = model_of((6, 6, 2), chain)
    kernel = model.get_layer("second").kernel
    kernel.assign(kernel * 100)
    prune_low_magnitude(model, at_once(), scope="global", structure="filters")
    assert empty_filters(model, "first").sum() == 7
    assert empty_filters(model, "second").sum() == 0


def test_a_global_budget_leaves_each_layer_a_filter():
    model = pruned(schedule=at_once(0.9), scope="global")
    assert [empty_filters(model, n).sum() for n in ("first", "second")] == [7, 5]


def test_a_constant_that_cannot_move_is_not_made():
    def build(x):
        x = conv("first", 8, activation="sigmoid")(x)
        x = conv("second", 6, activation="sigmoid")(x)
        return head(x)

    model = pruned(build)
    assert not empty_filters(model, "first").any()
    assert widths(removed_after(model), "first", "second") == [8, 3]


def test_what_a_varying_gate_scales_is_no_constant():
    def build(x):
        x = conv("first", 8, activation="sigmoid")(x) * conv("gate", 1)(x)
        return layers.Dense(3)(layers.Flatten()(x))

    with pytest.raises(ValueError, match="could be taken out"):
        pruned(build)


@pytest.mark.parametrize("frozen", ["first", "bn"])
def test_filters_of_frozen_layers_stay(frozen):
    model = model_of((6, 6, 2), chain)
    model.get_layer(frozen).trainable = False
    prune_low_magnitude(model, at_once(), structure="filters")
    gone = empty_filters(model, "first")
    bn = model.get_layer("bn")
    constant = bn.beta - bn.moving_mean * bn.gamma / np.sqrt(bn.moving_variance + 1e-3)
    # Behind a frozen normalization only what the activation cuts off is zero.
    can_go = np.maximum(constant, 0) == 0 if frozen == "bn" else np.zeros(8, "bool")
    assert not gone[~can_go].any()
    assert gone.sum() == can_go.sum() // 2
    assert empty_filters(model, "second").sum() == 3


def test_only_chosen_layers_are_pruned():
    model = pruned(layers=["second"])
    assert [empty_filters(model, n).sum() for n in ("first", "second")] == [0, 3]


def test_a_policy_chooses_as_well():
    class Policy:
        def allow_pruning(self, layer):
            return layer.name == "first"

    model = pruned(pruning_policy=Policy())
    assert [empty_filters(model, n).sum() for n in ("first", "second")] == [4, 0]


def test_a_part_of_what_is_added_together_cannot_be_chosen():
    with pytest.raises(ValueError, match="added together go together"):
        pruned(residual, layers=["outer"])


def test_a_model_with_nothing_but_outputs_has_nothing_to_prune():
    with pytest.raises(ValueError, match="model's outputs have to stay"):
        pruned(lambda x: layers.Dense(3)(x), shape=(5,))


def test_a_subclassed_model_is_told_about_heads():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, x):
            return self.dense(x)

    model = Subclassed()
    model(np.ones((1, 2)))
    with pytest.raises(ValueError, match=r"functional or sequential.*'heads'"):
        prune_low_magnitude(model, structure="filters")
    with pytest.raises(ValueError, match="no heads to prune"):
        prune_low_magnitude(model, structure="heads")


@pytest.mark.parametrize(
    "options", [{"block_size": (2, 1)}, {"sparsity_m_by_n": (2, 4)}]
)
def test_a_structure_has_no_pattern_inside(options):
    with pytest.raises(ValueError, match="whole filters or heads"):
        pruned(**options)


def test_an_unknown_structure_is_refused():
    with pytest.raises(ValueError, match="'filters', 'heads'"):
        pruned(structure="layers")


def test_filters_are_not_pruned_twice():
    with pytest.raises(ValueError, match="pruned already"):
        prune_low_magnitude(pruned(), structure="filters")


def transformer(x):
    """One block, the residual of which is normalized over all its channels."""
    attention = layers.MultiHeadAttention(4, 3, name="attend")
    x = layers.LayerNormalization()(x + attention(x, x))
    y = layers.Dense(6, name="down")(layers.Dense(8, "relu", name="up")(x))
    return layers.Dense(2, name="out")(layers.LayerNormalization()(x + y))


def test_heads_are_pruned_in_all_their_weights():
    model = pruned(transformer, shape=(5, 6), structure="heads")
    layer = model.get_layer("attend")
    gone = (layer.query_dense.kernel.numpy() == 0).all((0, 2))
    assert gone.sum() == 2
    for dense in (layer.key_dense, layer.value_dense):
        np.testing.assert_array_equal((dense.kernel.numpy() == 0).all((0, 2)), gone)
        np.testing.assert_array_equal((dense.bias.numpy() == 0).all(1), gone)
    output = layer.output_dense
    np.testing.assert_array_equal((output.kernel.numpy() == 0).all((1, 2)), gone)
    assert not (output.bias.numpy() == 0).any()


def test_heads_and_units_of_a_transformer_are_pruned_one_after_the_other():
    model = pruned(transformer, shape=(5, 6), structure="heads")
    prune_low_magnitude(model, at_once(), structure="filters")
    smaller = removed_after(model)
    assert smaller.get_layer("attend").num_heads == 2
    assert widths(smaller, "up", "down") == [4, 6]


def test_heads_of_a_subclassed_model_are_pruned():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.attend = layers.MultiHeadAttention(4, 3)
            self.group = layers.GroupQueryAttention(3, 6, 3)

        def call(self, x):
            return self.group(self.attend(x, x), x)

    model = Subclassed()
    model(np.ones((1, 5, 6)))
    prune_low_magnitude(unlike(model), at_once(), structure="heads")
    assert (model.attend.query_dense.kernel.numpy() == 0).all((0, 2)).sum() == 2
    queries = (model.group._query_dense.kernel.numpy() == 0).all((0, 2))
    # Of three groups of two queries each, one and a half would go.
    assert queries.reshape(3, 2).all(1).sum() == 1
    assert queries.sum() == 2


def test_the_report_is_about_kernels():
    report = pruning.sparsity_report(pruned())
    names = [(w.path.split("/")[-1], w.pruned) for w in report.weights]
    assert names == [("kernel", True), ("kernel", True), ("kernel", False)]
    assert [weight.sparsity for weight in report.weights] == [0.5, 0.5, 0.0]


def test_the_summaries_are_about_kernels(tmp_path):
    written = []
    callback = pruning.PruningSummaries(tmp_path)
    callback._write = lambda group, member, *_: written.append(member.variable.name)
    callback.set_model(pruned())
    callback.on_train_begin()
    callback.on_epoch_end(0)
    callback.on_train_end()
    assert written == ["kernel", "kernel"]


def test_stripping_leaves_the_zeros():
    model = pruning.strip_pruning(pruned())
    assert all(v.constraint is None for v in model.weights)
    assert widths(remove_filters(model), "first", "second") == [4, 3]


@pytest.mark.parametrize(
    ("structure", "scope"),
    [
        pytest.param("filters", "local", marks=pytest.mark.slow),
        pytest.param("heads", "global", marks=pytest.mark.thorough),
    ],
)
def test_training_goes_on_bit_for_bit_after_loading(structure, scope, tmp_path):
    options = dict(structure=structure, scope=scope, schedule=growing(end_step=17))
    build = {"filters": chain, "heads": transformer}[structure]
    shape = {"filters": (6, 6, 2), "heads": (5, 6)}[structure]
    model = train(pruned(build, shape=shape, **options), epochs=1)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert steps(loaded) == steps(model)
    same_weights(train(loaded, epochs=1), train(model, epochs=1))
    assert sparsities(loaded) == sparsities(model)
    removed_after(loaded)


@pytest.mark.slow
def test_a_weights_file_brings_masks_along(tmp_path):
    model = train(pruned(schedule=growing(end_step=17)), epochs=1)
    model.save_weights(tmp_path / "model.weights.h5")
    loaded = pruned(schedule=growing(end_step=17))
    loaded.compile(keras.optimizers.Adam(0.05), "mse")
    loaded.optimizer.build(loaded.trainable_variables)
    loaded.load_weights(tmp_path / "model.weights.h5")
    assert steps(loaded) == steps(model)
    same_weights(train(loaded), train(model))


@pytest.mark.slow
def test_a_fresh_process_goes_on_and_takes_the_filters_out(tmp_path):
    model = train(pruned(schedule=growing(end_step=17)), epochs=1)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", *data(model))
    printed = in_a_fresh_process(
        """
        import sys, numpy as np, keras, kopt
        model = keras.saving.load_model(sys.argv[1] + "/model.keras")
        x, y = np.load(sys.argv[1] + "/data.npz").values()
        model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
        kopt.pruning.remove_filters(model).save(sys.argv[1] + "/smaller.keras")
        print(kopt.pruning.sparsity_report(model).zeros)
        """,
        tmp_path,
    )
    assert printed == [str(pruning.sparsity_report(train(model)).zeros)]
    smaller = keras.saving.load_model(tmp_path / "smaller.keras")
    same_outputs(model, smaller)
    assert widths(smaller, "first", "second") == [4, 3]


def test_where_units_lie_is_written_down_in_few_numbers():
    units = (-1, -1, 4, 5, 6, 6, 6, 2, 0)
    layout = UnitLayout((3, 9), 1, units, True)
    config = layout.get_config()
    assert UnitLayout.from_config(config) == layout
    assert config["units"] == [[-1, 2, 0], [4, 3, 1], [6, 2, 0], [2, 1, 1], [0, 1, 1]]


def test_units_are_scored_by_the_root_mean_square_of_all_their_weights():
    first = np.array([[1.0, 1.1, 0.5, 9.0]] * 3)
    second = np.array([[0.5, -0.5]] * 2 + [[1, -1], [9, 9], [1.1, -1.1], [-1, 1]])
    layouts = [
        UnitLayout((3, 4), 1, (0, 1, 2, -1), True),
        UnitLayout((6, 2), 0, (2, 2, 0, -1, 1, 0), True),
        UnitLayout((3,), 0, (0, 1, 2), False),
    ]
    # The first unit has the larger sum, of seven numbers; the second one has five.
    masks = UnitPattern((3,)).masks([first, second, np.zeros(3)], layouts, 0.7)
    assert masks[2].numpy().tolist() == [False, True, False]
    assert masks[1].numpy().all(1).tolist() == [False] * 3 + [True, True, False]
    assert masks[0].numpy().all(0).tolist() == [False, True, False, True]
