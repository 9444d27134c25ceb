"""A search that TensorBoard, MLflow and Weights & Biases follow, without an account.

Each trial is a run of its own, with its hyperparameters and its curves:

    python examples/tune_tracking.py            # a minute on two cores
    python examples/tune_tracking.py --quick    # seconds, to see that it works

MLflow and Weights & Biases take part where they are installed (`pip install mlflow
wandb`), the first with a file of its own, the second offline. Look at the runs with
`tensorboard --logdir FOLDER/tensorboard`, `mlflow ui --backend-store-uri
sqlite:///FOLDER/mlflow.db` and, with an account, `wandb sync FOLDER/wandb/offline-*`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
from sklearn.datasets import load_digits

import kopt

MakesCallbacks = Callable[[Any], list[keras.callbacks.Callback]]


def build(hp: Any) -> keras.Model:
    """A small network for digits."""
    layers = [keras.Input((64,))]
    for _ in range(hp.Int("layers", 1, 2)):
        layers.append(keras.layers.Dense(hp.Choice("units", [16, 64]), "relu"))
    model = keras.Sequential([*layers, keras.layers.Dense(10, "softmax")])
    rate = hp.Float("learning_rate", 1e-4, 1e-1, sampling="log")
    model.compile(
        keras.optimizers.Adam(rate),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def values_of(trial: Any) -> dict[str, Any]:
    """The hyperparameters of a trial, by name."""
    return dict(trial.user_attrs["kopt:values"])


class MLflowRun(keras.callbacks.Callback):
    """An MLflow run of one trial."""

    def __init__(self, client: Any, experiment: str, trial: Any):
        super().__init__()
        self._client = client
        name = f"trial {trial.number}"
        self._run = client.create_run(experiment, run_name=name).info.run_id
        for key, value in values_of(trial).items():
            client.log_param(self._run, key, value)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        for name, value in (logs or {}).items():
            self._client.log_metric(self._run, name, float(value), step=epoch)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._client.set_terminated(self._run)


class WandbRun(keras.callbacks.Callback):
    """A run of Weights & Biases of one trial."""

    def __init__(self, wandb: Any, folder: Path, trial: Any):
        super().__init__()
        self._run = wandb.init(
            project="kopt",
            name=f"trial {trial.number}",
            config=values_of(trial),
            dir=folder,
            mode="offline",
            # The one of a trial that failed is closed.
            reinit="finish_previous",
            settings=wandb.Settings(silent=True),
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._run.log({name: float(value) for name, value in (logs or {}).items()})

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._run.finish()


def mlflow_runs(folder: Path) -> MakesCallbacks:
    """What makes the MLflow run of a trial."""
    mlflow = importlib.import_module("mlflow")
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    artifacts = (folder / "mlflow").resolve().as_uri()
    known = client.get_experiment_by_name("digits")
    experiment = (
        known.experiment_id
        if known
        else client.create_experiment("digits", artifact_location=artifacts)
    )
    return lambda trial: [MLflowRun(client, experiment, trial)]


def wandb_runs(folder: Path) -> MakesCallbacks:
    """What makes the offline run of a trial."""
    wandb = importlib.import_module("wandb")
    return lambda trial: [WandbRun(wandb, folder, trial)]


def trackers(folder: Path) -> list[MakesCallbacks]:
    """TensorBoard, and what else is installed."""
    found: list[MakesCallbacks] = [kopt.tuning.TensorBoard(folder / "tensorboard")]
    for name, make in (("mlflow", mlflow_runs), ("wandb", wandb_runs)):
        try:
            found.append(make(folder))
        except ImportError as error:
            print(f"Without {name}, which is not installed: {error}")
    return found


def search(folder: Path, trials: int, epochs: int) -> kopt.tuning.Results:
    """The search; every tracker has a run for each of its trials."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    makers = trackers(folder)
    return kopt.tuning.tune(
        build,
        (x[:1200], y[:1200]),
        objective="val_accuracy",
        budget=kopt.tuning.Budget(trials=trials),
        directory=folder / "search",
        validation_data=(x[1200:], y[1200:]),
        epochs=epochs,
        callbacks=lambda trial: [one for make in makers for one in make(trial)],
        progress=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few trials and epochs")
    parser.add_argument("--folder", type=Path, help="where to keep the runs")
    options = parser.parse_args()
    trials, epochs = (2, 1) if options.quick else (10, 8)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        results = search(folder, trials, epochs)
        runs = sorted(path.name for path in (folder / "tensorboard").iterdir())
        print(f"Runs of TensorBoard: {', '.join(runs)}")
        print(results)


if __name__ == "__main__":
    main()
