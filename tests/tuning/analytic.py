"""Searches without training: functions in the place of models, and deaths on demand."""

import json

import keras_tuner
import optuna

import kopt


class Killed(BaseException):
    """The death of a process: nothing that runs after it leaves a trace."""


class MortalStorage(optuna.storages.InMemoryStorage):
    """A storage whose process dies at a chosen write, and is revived by hand."""

    def __init__(self):
        super().__init__()
        self.writes = 0
        self.dies_at = None
        self.is_dead = False

    def revive(self, dies_at=None):
        self.is_dead, self.dies_at, self.writes = False, dies_at, 0

    def _write(self):
        self.writes += 1
        if self.writes == self.dies_at:
            self.is_dead = True
        if self.is_dead:
            raise Killed


def _mortal(name):
    inherited = getattr(optuna.storages.InMemoryStorage, name)

    def write(self, *args, **arguments):
        self._write()
        return inherited(self, *args, **arguments)

    return write


for _name in (
    "create_new_trial",
    "set_trial_param",
    "set_trial_state_values",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
    "set_study_user_attr",
):
    setattr(MortalStorage, _name, _mortal(_name))


class Model:
    """What a search asks of a model."""

    stop_training = False

    def get_weights(self):
        return []

    def set_weights(self, weights):
        pass

    def save(self, path):
        path.write_text(json.dumps({}))


class Analytic(keras_tuner.HyperModel):
    """A function of `hp` that returns the objective of each epoch."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.curves = []

    def build(self, hp):
        self.curve = self.function(hp)
        return Model()

    def fit(self, hp, model, *args, callbacks, epochs=None, **kwargs):
        self.curves.append([])
        for callback in callbacks:
            callback.set_model(model)
            callback.set_params({"epochs": epochs})
        for epoch, value in enumerate(self.curve):
            if model.stop_training:
                break
            self.curves[-1].append(value)
            for callback in callbacks:
                callback.on_train_batch_end(0)
                callback.on_epoch_end(epoch, {"val_loss": value})


def analytic_search(function, tmp_path, **arguments):
    """Run a search over a function of `hp`; its results."""
    arguments.setdefault("budget", kopt.tuning.Budget(trials=10))
    # No beat by the clock of a busy machine: deaths on demand are counted in writes.
    arguments.setdefault("grace", 3600.0)
    if not isinstance(function, keras_tuner.HyperModel):
        function = Analytic(function)
    return kopt.tuning.tune(
        function, ([0], [0]), objective="val_loss", directory=tmp_path, **arguments
    )


def proposals(results):
    """What was proposed and scored; repetitions stand where their originals did."""
    rows = [r for r in results.rows() if r["state"] in ("complete", "pruned", "failed")]
    trials = results.study.get_trials(deepcopy=False)
    rows.sort(
        key=lambda row: trials[row["number"]].user_attrs.get(
            "kopt:retry_of", row["number"]
        )
    )
    left_out = ("number", "seconds")
    return [{k: v for k, v in row.items() if k not in left_out} for row in rows]
