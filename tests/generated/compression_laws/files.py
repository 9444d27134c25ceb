"""Files against the models that they were made from, in every part."""

import numpy as np
from hypothesis import strategies as st

import kopt
from tests.generated.compressed_models import build, data, nets, outputs, reset
from tests.generated.compression_laws.law import (
    REFUSALS,
    VERBS,
    assert_close,
    folder,
    in_own_words,
    law,
)

#: Integer steps that rounding in another order may make of each value.
STEPS = 4


def predicted(path, x):
    file = kopt.export.Interpreter(path)
    found = file.predict(x)
    values = [found] if isinstance(found, np.ndarray) else list(found.values())
    named = dict(zip((tensor.name for tensor in file.outputs), values, strict=True))
    steps = {tensor.name: file.contents.step(tensor) for tensor in file.outputs}
    # Names come from the model; its outputs are told apart by their order there.
    order = sorted(named)
    return [named[name] for name in order], [steps[name] for name in order]


def exported(model, path, *arguments, **options):
    """The report of a file, or None where kopt refuses with words of its own."""
    try:
        return kopt.export.tflite(model, path, *arguments, isolate=False, **options)
    except REFUSALS as error:
        in_own_words(error)
        return None


def float_products(path):
    """The operations of a file that multiply by float weights."""
    contents = kopt.export.Interpreter(path).contents
    kinds = {"FULLY_CONNECTED", "BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D"}
    return [
        contents.tensors[one.outputs[0]].name
        for one in contents.operations
        if one.name in kinds and contents.tensors[one.outputs[0]].is_float
    ]


@law(
    nets(structure="dict"),
    st.lists(st.sampled_from(["prune", "cluster", "sharpen"]), max_size=1),
    quick=2,
)
def a_float_file_computes_what_the_model_computes(net, verbs):
    model, x = build(net), data(net)
    for verb in verbs:
        try:
            VERBS[verb](model, x)
        except REFUSALS as error:
            in_own_words(error)
            return
    expected = outputs(model, x)
    with folder() as place:
        size = len(x) if net.has_state else 1
        path = place / "m.tflite"
        try:
            kopt.export.tflite(
                model, path, verify=False, batch_size=size, isolate=False
            )
        except REFUSALS as error:
            in_own_words(error)
            # What is built of float operations alone is always written.
            assert net.has_state and "state" in str(error), error
            return
        found, _ = predicted(path, x)
        assert_close(dict(zip(expected, found, strict=True)), expected, rtol=1e-3)
        if net.has_state:
            reset(model)
            calls = [model.predict_on_batch(x) for _ in range(2)]
            file = kopt.export.Interpreter(path)
            for call in calls:
                again = file.predict(x)
                values = again if isinstance(again, dict) else {"out0": again}
                assert_close(values, {k: np.asarray(v) for k, v in call.items()}, 1e-3)


@law(nets(structure="dict"), quick=2)
def the_file_of_a_quantized_model_is_steps_away_at_most(net):
    model, x = build(net), data(net)
    try:
        kopt.quantization.quantize_model(model, calibration_data=x)
    except REFUSALS as error:
        in_own_words(error)
        return
    expected = outputs(model, x)
    with folder() as place:
        path = place / "m.tflite"
        size = len(x) if net.has_state else 1
        report = exported(model, path, verify=False, batch_size=size)
        if report is None:
            return
        found, steps = predicted(path, x)
        reported = kopt.quantization.quantization_report(model)
        if not reported.stays_float and not net.takes == "tokens":
            inside = exported(
                model, path, io_dtype="int8", verify=False, batch_size=size
            )
            if net.has_state:
                # What is kept is kept in float; what is computed is not.
                assert not float_products(path), float_products(path)
            else:
                assert inside is None or not inside.float_tensors, inside.float_tensors
    for values, other, step in zip(found, expected.values(), steps, strict=True):
        size = step or np.ptp(other) / 255
        away = np.abs(values - other) / max(size, 1e-6)
        # Whole steps, but for the rounding of what is compared.
        assert away.max() < STEPS + 0.5, f"{away.max():.1f} steps"


@law(nets(structure="dict"), quick=2)
def a_verified_file_has_no_channel_that_stands_still(net):
    model, x = build(net), data(net)
    expected = outputs(model, x)
    if net.has_state:
        return
    with folder() as place:
        path = place / "m.tflite"
        report = exported(model, path, "int8", x, verify=x)
        if report is None or not report.verified:
            return
        found, _ = predicted(path, x)
    for values, other in zip(found, expected.values(), strict=True):
        # Each number by its own size: some are large, others are not.
        moves = other.std(axis=0) > 0.1 * np.abs(other).max(axis=0)
        still = values.std(axis=0) == 0
        assert not (still & moves).any(), np.argwhere(still & moves)[:5].tolist()
