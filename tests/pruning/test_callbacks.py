import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kopt.pruning import (
    ConstantSparsity,
    OneShot,
    PolynomialDecay,
    PruningSummaries,
    UpdatePruningStep,
    prune_low_magnitude,
    sparsity_report,
    strip_pruning,
)
from tests.pruning.nets import mlp

STEPS, EPOCHS = 4, 3


def fit(model, *callbacks):
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(8 * STEPS, *model.input_shape[1:]))
    y = np.zeros((len(x), *model.output_shape[1:]))
    model.fit(x, y, batch_size=8, epochs=EPOCHS, verbose=0, callbacks=callbacks)


def written(folder):
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    return {
        tag: [
            (event.step, float(tf.make_ndarray(event.tensor_proto)))
            for event in events.Tensors(tag)
        ]
        for tag in events.Tags()["tensors"]
    }


@pytest.mark.parametrize("scope", ["local", "global"])
def test_summaries_follow_the_masks_epoch_by_epoch(tmp_path, scope):
    schedule = PolynomialDecay(0.0, 0.75, 0, STEPS * EPOCHS, frequency=STEPS)
    model = prune_low_magnitude(mlp(), schedule, scope=scope)
    fit(model, PruningSummaries(tmp_path / "logs"))
    found = written(tmp_path / "logs")
    report = sparsity_report(model)
    for weight in report.weights:
        values = found[f"sparsity/{weight.path}"]
        assert [step for step, _ in values] == [STEPS, 2 * STEPS, 3 * STEPS]
        assert values[-1][1] == pytest.approx(weight.sparsity, abs=1e-6)
        asked = [value for _, value in found[f"schedule/{weight.path}"]]
        expected = [float(schedule(step)[1]) for step, _ in values]
        assert asked == pytest.approx(expected)
        kernel = next(v for v in model.weights if v.path == weight.path).numpy()
        left = found[f"smallest_left/{weight.path}"][-1][1]
        assert left == pytest.approx(np.abs(kernel[kernel != 0]).min())
    assert found["sparsity/all"][-1][1] == pytest.approx(report.sparsity, abs=1e-6)


def test_summaries_of_m_of_n_have_no_schedule(tmp_path):
    model = prune_low_magnitude(mlp(), sparsity_m_by_n=(2, 4))
    fit(model, PruningSummaries(tmp_path))
    tags = written(tmp_path)
    sparsity = sparsity_report(model).sparsity
    assert tags["sparsity/all"][-1][1] == pytest.approx(sparsity, abs=1e-6)
    assert not [tag for tag in tags if tag.startswith("schedule")]


def test_the_step_callback_changes_nothing():
    models = [
        prune_low_magnitude(mlp(), ConstantSparsity(0.5, begin_step=2, frequency=2))
        for _ in range(2)
    ]
    models[1].set_weights(models[0].get_weights())
    fit(models[0])
    fit(models[1], UpdatePruningStep())
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("make", [UpdatePruningStep, lambda: PruningSummaries("logs")])
def test_a_model_that_is_not_pruned_is_refused(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = strip_pruning(prune_low_magnitude(mlp(), OneShot(0.5)))
    with pytest.raises(ValueError, match="is for pruned models"):
        fit(model, make())
    assert not list(tmp_path.iterdir())


def test_summaries_into_a_file_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        fit(prune_low_magnitude(mlp()), PruningSummaries(tmp_path / "file" / "logs"))
