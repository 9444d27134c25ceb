"""A run that is cut off and resumed is the uninterrupted one, beside any callback.

The cases are the callbacks that each class gives by `examples()`, and those of Keras
that decide something.
"""

import h5py
import keras
import pytest

import kopt
from kopt import _registry
from tests.interruption import Setting, X, Y, dense_model

# Beside these nothing is backed up: what they do leaves no trace in the run, or they
# are the backup.
NOT_BESIDE = {
    "LRFinder": "LRFinder cannot run beside BackupAndRestore",
    "BackupAndRestore": "backs up the same run",
}
CLASSES = {name: _registry.entry("callbacks", name) for name in kopt.callbacks.__all__}
CASES = {
    f"{name}-{place}": lambda callback=callback, place=place: [
        callback.examples()[place]
    ]
    for name, callback in CLASSES.items()
    for place in range(len(callback.examples()))
    if name not in NOT_BESIDE
}
MONITOR = {"monitor": "val_loss", "mode": "min"}
OF_KERAS = {
    "EarlyStopping": lambda folder: [
        keras.callbacks.EarlyStopping(
            **MONITOR, min_delta=0.05, patience=2, restore_best_weights=True
        )
    ],
    "ReduceLROnPlateau": lambda folder: [
        keras.callbacks.ReduceLROnPlateau(
            **MONITOR, min_delta=0.05, patience=1, factor=0.5, cooldown=1
        )
    ],
    "ModelCheckpoint": lambda folder: [
        keras.callbacks.ModelCheckpoint(
            folder / "best.keras", **MONITOR, save_best_only=True
        ),
        keras.callbacks.ModelCheckpoint(
            folder / "often.weights.h5", save_freq=4, save_weights_only=True
        ),
    ],
    "CSVLogger": lambda folder: [keras.callbacks.CSVLogger(folder / "log.csv")],
    "LearningRateScheduler": lambda folder: [
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9)
    ],
    "SwapEMAWeights": lambda folder: [
        keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    ],
}


def averaging_model():
    return dense_model(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9))


def setting(callbacks, **arguments):
    arguments = {"validation_data": (X, Y), "epochs": 4, **arguments}
    return Setting(callbacks=callbacks, **arguments)


def callbacks_in(folders, kinds):
    """Makes callbacks that write into one folder after the other."""

    def make():
        folder = next(folders)
        folder.mkdir(exist_ok=True)
        return [one for kind in kinds for one in OF_KERAS[kind](folder)]

    return make


def check_with_files(tmp_path, *kinds):
    folders = iter([tmp_path / "whole", *[tmp_path / "parts"] * 9])
    callbacks = callbacks_in(folders, kinds)
    setting(callbacks, model=averaging_model).check(tmp_path, [7, 25, 39])
    for path in (tmp_path / "whole").glob("*.*"):
        assert content(path) == content(tmp_path / "parts" / path.name)


# OneCycle drives what FitSchedule drives, and BatchSizeRamp leaves fewer calls.
TOGETHER = [
    case
    for name, case in CASES.items()
    if name.endswith("-0") and name not in ("OneCycle-0", "BatchSizeRamp-0")
]


@pytest.mark.slow
def test_beside_all_of_kopt_at_once(tmp_path):
    def callbacks():
        return [one for case in TOGETHER for one in case()]

    setting(callbacks, model=averaging_model).check(tmp_path, [7, 25, 19])


@pytest.mark.slow
def test_beside_those_of_keras_that_decide_something_at_once(tmp_path):
    check_with_files(
        tmp_path, "EarlyStopping", "ReduceLROnPlateau", "ModelCheckpoint", "CSVLogger"
    )


# 21 calls an epoch: before and after batches, in validation, at the end of an epoch.
@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_beside_each_callback_of_kopt(name, tmp_path):
    setting(CASES[name], model=averaging_model).check(tmp_path, [7, 25, 19])


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_KERAS)
def test_beside_each_of_keras(name, tmp_path):
    check_with_files(tmp_path, name)


def content(path):
    """What a callback has written, without what differs from file to file."""
    if path.suffix == ".csv":
        return path.read_text()
    if path.suffix == ".keras":
        return [one.tolist() for one in keras.saving.load_model(path).get_weights()]
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            found = {}
            file.visititems(lambda name, one: found.update({name: one}))
            return {n: d[()].tolist() for n, d in found.items() if hasattr(d, "shape")}
    return None


@pytest.mark.parametrize("name", NOT_BESIDE)
def test_some_are_refused_beside_it(name, tmp_path):
    case = setting(lambda: [CLASSES[name].examples()[0]])
    with pytest.raises(ValueError, match=NOT_BESIDE[name]):
        case.run(tmp_path)


def pruned_model():
    schedule = kopt.pruning.PolynomialDecay(
        0.0, 0.5, begin_step=3, end_step=15, frequency=4
    )
    model = kopt.pruning.prune_low_magnitude(averaging_model(), schedule)
    model.compile(kopt.Adam(0.05), "binary_crossentropy")
    return model


def quantized_model():
    model = kopt.quantization.quantize_model(averaging_model(), calibration_data=X)
    model.compile(kopt.Adam(0.05), "binary_crossentropy")
    return model


def sharp_model():
    return kopt.sharpness_aware(dense_model(kopt.SGD(0.1)))


OF_OTHER_AREAS = {
    "pruned": (
        pruned_model,
        lambda: [
            kopt.pruning.BestAfterPruning(
                keras.callbacks.EarlyStopping(patience=1, restore_best_weights=True)
            )
        ],
    ),
    "quantized": (
        quantized_model,
        lambda: [kopt.quantization.FreezeLate(ranges_at=0.25, batch_norm_at=0.5)],
    ),
    "sharpness-aware": (sharp_model, list),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_OTHER_AREAS)
def test_models_of_other_areas_go_on(name, tmp_path):
    model, callbacks = OF_OTHER_AREAS[name]
    setting(callbacks, model=model).check(tmp_path, [8, 25, 30])
