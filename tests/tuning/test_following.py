"""What one sees of a search while it goes, and what callbacks of its trials write."""

import io
import threading

import keras
import numpy as np
import optuna
import pytest
from rich.console import Console
from tensorboard.backend.event_processing import plugin_event_multiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import (
    api_pb2,
    backend_context,
    list_session_groups,
)

import kopt
from kopt.tuning._trials.progress import Progress
from tests.tuning.analytic import Analytic, analytic_search

Budget = kopt.tuning.Budget
x = np.random.default_rng(0).normal(size=(32, 2)).astype("float32")
DATA = (x, x[:, :1])


def build(hp):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    rate = hp.Float("rate", 1e-3, 1e-1, sampling="log")
    model.compile(keras.optimizers.SGD(rate), hp.Choice("loss", ["mse", "mae"]))
    return model


def search(folder, trials=2, **arguments):
    return kopt.tuning.tune(
        build,
        DATA,
        objective="val_loss",
        budget=Budget(trials=trials),
        directory=folder / "run",
        validation_data=DATA,
        epochs=2,
        **arguments,
    )


def written(tmp_path, function, terminal=False, **arguments):
    """What a search over a function of `hp` shows, and its results."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=160)
    results = analytic_search(function, tmp_path, progress=console, **arguments)
    return file.getvalue(), results


def test_elsewhere_each_trial_is_a_line(tmp_path):
    def curve(hp):
        value = hp.Float("x", 0, 1)
        if len(model.curves) == 2:
            model.curves.append([])
            raise ValueError("nothing to learn")
        return [value + 1, value]

    model = Analytic(curve)
    shown, results = written(tmp_path, model, budget=Budget(trials=3))
    lines = shown.splitlines()
    assert len(lines) == len(results.rows())
    states = [row["state"] for row in results.rows()]
    for line, state, row in zip(lines, states, results.rows(), strict=True):
        assert line.startswith(f"trial {row['number']}  {state}  ")
    first = results.rows()[0]
    assert f"val_loss {first['score']:.4g}  2 epochs" in lines[0]
    assert f"x={first['hp:x']:.4g}  1/3 trials  best {first['score']:.4g}" in lines[0]
    assert f"best {results.best_score:.4g}" in lines[-1]


def test_trials_of_before_are_no_news(tmp_path):
    def curve(hp):
        return [hp.Float("x", 0, 1)]

    written(tmp_path, curve, budget=Budget(trials=2))
    shown, _ = written(tmp_path, curve, budget=Budget(trials=3))
    assert [line.split("  ")[0] for line in shown.splitlines()] == ["trial 2"]


def test_a_terminal_has_a_table(tmp_path):
    def curve(hp):
        return [hp.Float("x", 0, 1) + np.random.normal() for _ in range(3)]

    shown, results = written(
        tmp_path, curve, terminal=True, budget=Budget(trials=8, epochs=99), confirm=1
    )
    table = shown[shown.rindex("┏") :]
    for word in ("trial", "state", "val_loss", "hyperparameters", "8/8 trials"):
        assert word in table
    assert "24/99 epochs" in table
    assert f"best {results.best_score:.4g}" in table
    assert "(again " in table


def test_a_trial_that_runs_is_shown_with_its_epochs(tmp_path):
    seen = []

    def curve(hp):
        value = hp.Float("x", 0, 1)
        for epoch in range(3):
            yield value + epoch
            study = kopt.tuning.Results(tmp_path).study
            console = Console(file=io.StringIO(), width=160)
            console.print(Progress(study, "val_loss", Budget(trials=1)).table())
            seen.append(console.file.getvalue())

    analytic_search(curve, tmp_path, budget=Budget(trials=1))
    assert all("running" in text for text in seen)
    rows = [text.splitlines()[3] for text in seen]
    assert [row.split("│")[3].strip() for row in rows] == ["1", "2", "3"]


@pytest.mark.parametrize("progress", [None, False])
def test_without_a_word_nothing_is_shown_elsewhere(tmp_path, capsys, progress):
    analytic_search(
        lambda hp: [hp.Float("x", 0, 1)],
        tmp_path,
        progress=progress,
        budget=Budget(trials=2),
    )
    assert capsys.readouterr().out == ""


def test_a_table_inside_of_a_thread_ends_with_the_search(tmp_path):
    def work():
        written(tmp_path, lambda hp: [hp.Float("x", 0, 1)], terminal=True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()


# TensorBoard


def session_groups(folder):
    """What TensorBoard's HParams plug-in reads of a folder."""
    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    from tensorboard.backend.event_processing import data_provider

    provider = data_provider.MultiplexerDataProvider(multiplexer, str(folder))
    context = backend_context.Context(
        base_plugin.TBContext(data_provider=provider, logdir=str(folder))
    )
    request_context = RequestContext()
    experiment = context.experiment_from_metadata(
        request_context,
        "experiment",
        True,
        context.hparams_metadata(request_context, "experiment"),
        context.hparams_from_data_provider(request_context, "experiment", None),
    )
    request = api_pb2.ListSessionGroupsRequest(
        start_index=0,
        slice_size=100,
        allowed_statuses=[
            api_pb2.STATUS_UNKNOWN,
            api_pb2.STATUS_SUCCESS,
            api_pb2.STATUS_FAILURE,
            api_pb2.STATUS_RUNNING,
        ],
    )
    handler = list_session_groups.Handler(
        request_context, context, "experiment", request
    )
    return experiment, handler.run().session_groups


def test_tensorboard_reads_a_run_with_hyperparameters_for_each_trial(tmp_path):
    logs = tmp_path / "logs"
    results = search(tmp_path, callbacks=kopt.tuning.TensorBoard(logs))
    _, groups = session_groups(logs)
    assert len(groups) == 2
    for row in results.rows():
        (group,) = [g for g in groups if g.name == f"trial {row['number']}"]
        assert group.hparams["rate"].number_value == pytest.approx(row["hp:rate"])
        assert group.hparams["loss"].string_value == row["hp:loss"]
        (session,) = group.sessions
        assert session.name == f"trial-{row['number']:04d}"
        assert session.status == api_pb2.STATUS_SUCCESS
        history = results.history(row["number"])
        found = {
            (value.name.group, value.name.tag): value.value
            for value in session.metric_values
        }
        assert found["validation", "epoch_loss"] == pytest.approx(
            history["val_loss"][-1], rel=1e-5
        )


def test_the_folders_of_tensorboard_are_its_own():
    with pytest.raises(TypeError, match="Leave it out"):
        kopt.tuning.TensorBoard("logs", log_dir="elsewhere")


# Callbacks in a list


def test_copies_of_a_callback_write_to_a_folder_of_their_trial(tmp_path):
    callbacks = [
        keras.callbacks.TensorBoard(str(tmp_path / "logs")),
        keras.callbacks.CSVLogger(str(tmp_path / "log.csv")),
        keras.callbacks.ModelCheckpoint(str(tmp_path / "model.keras")),
        keras.callbacks.BackupAndRestore(
            str(tmp_path / "backup"), delete_checkpoint=False
        ),
    ]
    results = search(tmp_path, callbacks=callbacks)
    assert [row["epochs"] for row in results.rows()] == [2, 2]
    for trial in ("trial-0000", "trial-0001"):
        for name in ("log.csv", "model.keras"):
            assert (tmp_path / trial / name).exists()
        assert (tmp_path / "logs" / trial / "validation").exists()
        assert (tmp_path / "backup" / trial).exists()
        assert len((tmp_path / trial / "log.csv").read_text().splitlines()) == 3
    assert not (tmp_path / "log.csv").exists()


def test_kopts_own_backup_is_that_of_a_trial(tmp_path):
    backup = kopt.callbacks.BackupAndRestore(
        tmp_path / "backup", delete_checkpoint=False
    )
    results = search(tmp_path, callbacks=[backup])
    assert [row["epochs"] for row in results.rows()] == [2, 2]
    names = sorted(path.name for path in (tmp_path / "backup").iterdir())
    assert names == ["trial-0000", "trial-0001"]


def test_a_callback_that_cannot_be_copied_is_an_error_at_once(tmp_path):
    class Locked(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.lock = threading.Lock()

    with pytest.raises(TypeError, match=r"callbacks=lambda trial: \[Locked"):
        search(tmp_path, callbacks=[Locked()])
    results = search(tmp_path, trials=1, callbacks=lambda trial: [Locked()])
    assert results.rows()[0]["state"] == "complete"


def test_data_that_one_trial_uses_up_are_an_error_at_once(tmp_path):
    def batches():
        while True:
            yield DATA

    fit = {"steps_per_epoch": 1, "validation_steps": 1}
    arguments = {"objective": "val_loss", "budget": Budget(trials=2), **fit}
    for data, validation in (
        (batches(), DATA),
        (DATA, batches()),
        ({"x": batches(), "validation_data": DATA}, None),
    ):
        with pytest.raises(TypeError, match=r"is a generator.*data=lambda: \{"):
            kopt.tuning.Tuner(build, data, validation_data=validation, **arguments)
    results = kopt.tuning.tune(
        build,
        lambda: {"x": batches(), "validation_data": batches()},
        directory=tmp_path,
        **arguments,
    )
    assert [row["state"] for row in results.rows()] == ["complete"] * 2


def mean_of_predictions(y_true, y_pred):
    return keras.ops.mean(y_pred)


def test_a_model_with_a_metric_of_ones_own_is_read_from_the_folder(tmp_path):
    def with_metric(hp):
        model = build(hp)
        model.compile("sgd", "mse", metrics=[mean_of_predictions])
        return model

    results = kopt.tuning.tune(
        with_metric,
        DATA,
        objective="loss",
        budget=Budget(trials=1),
        directory=tmp_path,
    )
    expected = results.best_model().predict(x, verbose=0)
    assert results.best_model().compiled
    with pytest.warns(UserWarning, match="The model is not compiled"):
        model = kopt.tuning.Results(tmp_path).best_model()
    np.testing.assert_array_equal(model.predict(x, verbose=0), expected)


def test_a_function_of_the_trial_finds_its_hyperparameters(tmp_path):
    found = []

    def callbacks(trial):
        found.append(trial.user_attrs["kopt:values"])
        return []

    results = search(tmp_path, callbacks=callbacks)
    assert found == [
        {name[3:]: value for name, value in row.items() if name.startswith("hp:")}
        for row in results.rows()
    ]
    assert isinstance(results.study, optuna.Study)
