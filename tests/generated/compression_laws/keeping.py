"""What verbs leave as it is."""

import keras
from hypothesis import strategies as st

import kopt
from tests.generated.compressed_models import build, data, nets
from tests.generated.compression_laws.law import (
    REFUSALS,
    VERBS,
    State,
    assert_close,
    folder,
    in_own_words,
    law,
)


@law(nets(heads=("linear",)))
def pruning_to_no_zeros_changes_nothing(net):
    model = build(net)
    before = State.of(model, net)
    kopt.pruning.prune_low_magnitude(model, kopt.pruning.OneShot(0.0))
    before.assert_same(State.of(kopt.pruning.strip_pruning(model), net))


@law(nets())
def a_quantized_model_is_stripped_to_what_it_was(net):
    model = build(net)
    before = State.of(model, net)
    try:
        kopt.quantization.quantize_model(model, calibration_data=data(net))
    except REFUSALS as error:
        in_own_words(error)
        # As it was, too.
        before.assert_same(State.of(model, net))
        return
    before.assert_same(State.of(kopt.quantization.strip_quantization(model), net))


@law(nets(heads=("linear",)), st.sampled_from(sorted(VERBS)))
def a_refusal_leaves_the_model_as_it_was(net, verb):
    model = build(net)
    # Nothing can be pruned, clustered, calibrated on these.
    poisoned = model.weights[0]
    poisoned.assign(keras.ops.full(poisoned.shape, float("nan")))
    weights, kind = model.get_weights(), type(model)
    try:
        VERBS[verb](model, data(net))
    except REFUSALS as error:
        in_own_words(error)
        assert type(model) is kind
        assert len(model.get_weights()) == len(weights)


@law(
    nets(),
    st.lists(st.sampled_from(sorted(VERBS)), min_size=1, max_size=2, unique=True),
    st.sampled_from([".keras", ".keras", ".h5"]),
)
def a_file_is_the_model_or_is_refused(net, verbs, ending):
    model = build(net)
    try:
        for verb in verbs:
            VERBS[verb](model, data(net))
    except REFUSALS as error:
        in_own_words(error)
        return
    expected = State.of(model, net).outputs
    with folder() as place:
        try:
            model.save(place / f"model{ending}")
        except REFUSALS as error:
            in_own_words(error)
            assert ending == ".h5" and ".keras" in str(error), error
            return
        again = keras.saving.load_model(place / f"model{ending}", compile=False)
    assert_close(State.of(again, net).outputs, expected)
