"""What kopt makes of the models of KerasHub, one small one of each of 18 families.

    python benchmarks/hub_coverage.py [--quick] [--families NAME,NAME]

Each learns a little task, is pruned to 50 %, quantized, trained for a step and exported
to an int8 file. The table says how far each gets, what stays float and why, and how
often the largest output is the same: of the quantized model and the float one, of the
file and the quantized model. KerasHub is no dependency of kopt: without it the script
says how to install it and does nothing.
"""

from __future__ import annotations

import argparse
import collections
import importlib
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from _hub_families import FAMILIES, SAMPLES, Family
from _timing import CONSOLE, machine, table

import kopt

QUICK = ["Llama", "ResNet"]
COLUMNS = (
    "learned",
    "zeros",
    "quantized",
    "trains",
    "file",
    "like float",
    "like model",
    "LSB",
    "stays float",
)


def models_of_hub() -> Any:
    """`keras_hub.models`, or None where it is not installed."""
    try:
        return importlib.import_module("keras_hub.models")
    except ModuleNotFoundError as error:
        CONSOLE.print(
            f"KerasHub cannot be imported ({error}). Its text models ask for a "
            "tensorflow-text that fits the installed TensorFlow; what is measured here "
            "needs none: `pip install --no-deps keras-hub regex tokenizers`."
        )
        return None


def covered(hub: Any, name: str, epochs: int) -> dict[str, str]:
    """How far a family gets: a cell for each column."""
    keras.utils.set_random_seed(0)
    family = FAMILIES[name](hub, np.random.default_rng(0))
    found = dict.fromkeys(COLUMNS, "-")
    stages = (
        ("learned", learn),
        ("zeros", pruned),
        ("quantized", quantized),
        ("trains", trains_a_step),
        ("file", exported),
    )
    for column, stage in stages:
        before = predictions(family) if column == "quantized" else None
        try:
            found |= {column: "yes", **stage(family, epochs)}
        except Exception as error:
            # Whatever it is: a user would not get further.
            found[column] = f"{type(error).__name__}: {first_line(error)}"
            break
        if before is not None:
            found["like float"] = agreement(before, predictions(family))
    return found


def learn(family: Family, epochs: int) -> dict[str, str]:
    compiled(family.model, keras.optimizers.Adam(family.learning_rate))
    size = 32 if family.batch_size == 1 else family.batch_size
    # Pictures and captions that belong together stay in one batch.
    shuffle = family.batch_size == 1
    family.model.fit(
        x=family.x,
        y=family.y,
        batch_size=size,
        epochs=epochs,
        verbose=0,
        shuffle=shuffle,
    )
    return {"learned": agreement(predictions(family), family.y)}


def compiled(model: Any, optimizer: Any) -> None:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # KerasHub would choose metrics, for pixels one that compares other shapes.
    model.compile(optimizer, loss, metrics=[])


def predictions(family: Family) -> np.ndarray:
    """The index of the largest output of each place, without a trace for it."""
    size = SAMPLES if family.batch_size == 1 else family.batch_size
    found = [
        np.asarray(family.model(samples(family.x, at, size), training=False))
        for at in range(0, SAMPLES, size)
    ]
    return np.concatenate(found).argmax(-1)


def samples(values: Any, start: int, size: int) -> Any:
    """Some samples of all inputs."""
    return keras.tree.map_structure(lambda one: one[start : start + size], values)


def agreement(one: np.ndarray, other: np.ndarray) -> str:
    return f"{np.mean(one == other):.2%}"


def pruned(family: Family, epochs: int) -> dict[str, str]:
    schedule = kopt.pruning.ConstantSparsity(0.5, 0, frequency=1)
    kopt.pruning.prune_low_magnitude(family.model, schedule)
    learned = learn(family, epochs)
    report = kopt.pruning.sparsity_report(family.model)
    kopt.pruning.strip_pruning(family.model)
    return {**learned, "zeros": f"{report.sparsity:.1%}"}


def quantized(family: Family, epochs: int) -> dict[str, str]:
    kopt.quantization.quantize_model(family.model, calibration_data=family.x)
    report = kopt.quantization.quantization_report(family.model)
    reasons = collections.Counter(
        f"{one.layer} ({one.note})" if one.note else one.layer
        for one in report.stays_float
    )
    return {
        "quantized": f"{len(report.integer)} layers",
        "stays float": "; ".join(f"{n} {why}" for why, n in reasons.items())
        or "nothing",
    }


def trains_a_step(family: Family, epochs: int) -> dict[str, str]:
    compiled(family.model, keras.optimizers.SGD(1e-4))
    size = max(family.batch_size, 4)
    # KerasHub's classifiers compile themselves with metrics, which come back too.
    results = family.model.train_on_batch(
        x=samples(family.x, 0, size), y=family.y[:size]
    )
    loss = float(np.ravel(results)[0])
    if not np.isfinite(loss):
        raise ValueError(f"the loss is {loss}")
    return {}


def exported(family: Family, epochs: int) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.tflite"
        report = kopt.export.tflite(
            family.model, path, batch_size=family.batch_size, verify=family.x
        )
        outputs = kopt.export.Interpreter(path).predict(family.x)
    same = agreement(np.asarray(outputs).argmax(-1), predictions(family))
    return {
        "file": f"{len(report.float_tensors or ())} float tensors",
        "like model": same,
        "LSB": "-" if report.max_lsb is None else f"{report.max_lsb:.1f}",
    }


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]


def coverage(hub: Any, families: list[str], epochs: int) -> None:
    rows = table("KerasHub: how far each family gets", "family", *COLUMNS)
    silent = []
    for family in families:
        found = covered(hub, family, epochs)
        # What is known so far stays known if the rest is interrupted.
        CONSOLE.print(family, found)
        rows.add_row(family, *found.values())
        if found["like model"] != "-" and float(found["like model"][:-1]) < 99:
            silent.append(family)
        keras.utils.clear_session()
    CONSOLE.print(rows)
    CONSOLE.print(
        "files that were verified but choose otherwise in more than 1 of 100 places: "
        f"{', '.join(silent) or 'none'}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few and small, for CI")
    parser.add_argument("--families", help="names of the table, with commas")
    arguments = parser.parse_args()
    families = QUICK if arguments.quick else list(FAMILIES)
    if arguments.families:
        families = arguments.families.split(",")
    warnings.simplefilter("ignore")
    hub = models_of_hub()
    if hub is None:
        return
    CONSOLE.print(machine("tensorflow", "keras", "keras-hub"))
    coverage(hub, families, 5 if arguments.quick else 40)


if __name__ == "__main__":
    main()
