"""Training with what the verbs have put on a model."""

import warnings

import keras
import numpy as np
import tensorflow as tf
from hypothesis import strategies as st

import kopt
from tests.generated.compressed_models import SAMPLES, build, data, nets, targets
from tests.generated.compression_laws.law import (
    REFUSALS,
    VERBS,
    folder,
    in_own_words,
    law,
)


def fit(model, net, epochs=1, batches=1, callbacks=()):
    x = data(net)
    y = targets(model, x)
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    size = SAMPLES if net.has_state else SAMPLES // batches
    arguments = dict(batch_size=size, epochs=epochs, verbose=0)
    return model.fit(x, y, callbacks=list(callbacks), **arguments).history


def gradients(model, net):
    weights = [weight.value for weight in model.trainable_variables]
    with tf.GradientTape() as tape:
        outputs = keras.tree.flatten(model(data(net), training=True))
        loss = sum(tf.reduce_sum(tf.cast(one, "float32")) for one in outputs)
    return tape.gradient(loss, weights)


@law(
    nets(),
    st.lists(st.sampled_from(sorted(VERBS)), min_size=1, max_size=3, unique=True),
)
def training_continues_after_any_verbs(net, verbs):
    model = build(net)
    try:
        for verb in verbs:
            VERBS[verb](model, data(net))
    except REFUSALS as error:
        in_own_words(error)
        return
    if any(gradient is not None for gradient in gradients(model, net)):
        assert np.isfinite(fit(model, net)["loss"]).all()
    else:
        # Some drawn models hand their input through, past all of their weights.
        assert not any(gradient is not None for gradient in gradients(build(net), net))


@law(
    nets(heads=("linear",)),
    st.sampled_from([0.0, 0.3, 0.5, 0.9]),
    st.sampled_from(["local", "global"]),
)
def zeros_are_as_many_as_were_asked(net, sparsity, scope):
    model = build(net)
    schedule = kopt.pruning.OneShot(sparsity)
    kopt.pruning.prune_low_magnitude(model, schedule, scope=scope)
    fit(model, net)
    with folder() as place:
        model.save(place / "model.keras")
        again = keras.saving.load_model(place / "model.keras", compile=False)
    for one in (model, again, kopt.pruning.strip_pruning(model)):
        report = kopt.pruning.sparsity_report(one)
        sizes = [weight.size for weight in report.weights]
        zeros = [weight.zeros for weight in report.weights]
        if scope == "global":
            sizes, zeros = [sum(sizes)], [sum(zeros)]
        for size, count in zip(sizes, zeros, strict=True):
            # Half a weight may go either way.
            kept = size - count
            assert kept == 1 or abs(kept - size * (1 - sparsity)) < 0.501, (size, count)


class _Worse(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        logs["val_loss"] = float(epoch)


@law(nets(heads=("linear",)), st.sampled_from([0.5, 0.8]))
def a_best_epoch_is_as_sparse_as_was_asked_or_it_is_said(net, sparsity):
    model = build(net)
    schedule = kopt.pruning.PolynomialDecay(0.0, sparsity, 0, 6, frequency=1)
    kopt.pruning.prune_low_magnitude(model, schedule, scope="global")
    best = keras.callbacks.EarlyStopping(
        monitor="val_loss", patience=9, restore_best_weights=True
    )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fit(model, net, epochs=6, callbacks=[_Worse(), best])
    report = kopt.pruning.sparsity_report(model)
    told = any(f"{sparsity:.0%}" in str(one.message) for one in said)
    kept = report.size - report.zeros
    assert told or kept == 1 or kept < report.size * (1 - sparsity) + 0.501


FORMS_OF_DATA = {
    "array": lambda x: x,
    "batched": lambda x: tf.data.Dataset.from_tensor_slices(x).batch(8),
    "unbatched": lambda x: tf.data.Dataset.from_tensor_slices(x),
    "list of batches": lambda x: [x[i : i + 1] for i in range(16)],
}


@law(nets(), st.sampled_from(sorted(FORMS_OF_DATA)))
def what_calibrates_an_export_calibrates_a_model(net, form):
    given = FORMS_OF_DATA[form]

    def refusal(verb):
        try:
            verb(build(net), given(data(net)))
        except REFUSALS as error:
            in_own_words(error)
            return str(error)
        return None

    def exported(model, x):
        with folder() as place:
            path = place / "m.tflite"
            kopt.export.tflite(model, path, "int8", x, verify=False, isolate=False)

    def quantized(model, x):
        kopt.quantization.quantize_model(model, calibration_data=x)

    if net.has_state or refusal(lambda m, _: quantized(m, data(net))):
        return
    assert refusal(quantized) is None, refusal(quantized)
    assert refusal(exported) is None, refusal(exported)
