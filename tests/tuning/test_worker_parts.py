"""What workers stand on: patience, signs of life, parcels, shares of a machine."""

import sys
import threading

import keras
import numpy as np
import optuna
import pytest
import sqlalchemy
import tensorflow as tf
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

import kopt
from kopt.tuning._trials import records
from kopt.tuning._trials.errors import StorageError
from kopt.tuning._workers import resources
from kopt.tuning._workers.parcel import ParcelError, packed, unpacked
from kopt.tuning._workers.patient import PatientStorage
from kopt.tuning._workers.pulse import Watch
from kopt.tuning._workers.storages import storage_of
from tests.tuning.analytic import analytic_search

ADDRESS = "postgresql+psycopg://me:secret@nowhere/tuning"


class Unsteady(InMemoryStorage):
    """A storage whose server goes away at each of its next calls, before or after."""

    def __init__(self):
        super().__init__()
        self.before = self.after = 0

    def _go(self, name):
        count = getattr(self, name)
        setattr(self, name, max(count - 1, 0))
        if count:
            gone = sqlalchemy.exc.OperationalError("COMMIT", {}, Exception("gone"))
            raise StorageInternalError("during the commit") from gone


def _unsteady(name):
    inherited = getattr(InMemoryStorage, name)

    def method(self, *args, **arguments):
        self._go("before")
        found = inherited(self, *args, **arguments)
        self._go("after")
        return found

    return method


for _name in ("set_trial_state_values", "set_trial_user_attr", "get_study_user_attrs"):
    setattr(Unsteady, _name, _unsteady(_name))


@pytest.fixture
def patient():
    storage = PatientStorage(Unsteady(), "here", patience=5.0)
    study = storage.create_new_study([StudyDirection.MINIMIZE], "a")
    return storage, storage.create_new_trial(study)


# A server that is away


def test_a_server_that_is_away_is_a_pause(patient):
    storage, trial = patient
    storage.inner.before = 3
    storage.set_trial_user_attr(trial, "key", 1)
    assert storage.get_trial(trial).user_attrs == {"key": 1}
    assert storage.inner.before == 0


def test_what_was_told_before_a_server_went_away_is_told_once(patient):
    storage, trial = patient
    storage.inner.after = 1
    assert storage.set_trial_state_values(trial, TrialState.COMPLETE, [2.0])
    assert storage.get_trial(trial).values == [2.0]


def test_what_another_worker_told_meanwhile_stands(patient):
    storage, trial = patient
    storage.inner.set_trial_state_values(trial, TrialState.FAIL)
    with pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_state_values(trial, TrialState.FAIL)
    storage.inner.before = 1
    with pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_state_values(trial, TrialState.COMPLETE, [1.0])


def test_a_server_that_stays_away_is_an_error_with_its_reason(patient):
    storage, _ = patient
    storage.patience, storage.inner.before = 0.0, 99
    with pytest.raises(StorageError, match=r"here has not answered.* gone"):
        storage.get_study_user_attrs(0)


def test_other_errors_of_a_storage_are_not_waited_for(patient):
    storage, _ = patient
    with pytest.raises(KeyError):
        storage.get_study_id_from_name("b")


def test_what_a_broken_connection_leaves_behind_is_waited_for_too(patient):
    storage, _ = patient
    errors = [None]

    def method():
        if not errors:
            return "there"
        errors.pop()
        try:
            raise sqlalchemy.exc.OperationalError("SELECT", {}, Exception("gone"))
        except sqlalchemy.exc.OperationalError:
            # As Optuna's slower way to read all trials, on the same session.
            pending = sqlalchemy.exc.PendingRollbackError("roll back first")
            try:
                raise pending
            except sqlalchemy.exc.PendingRollbackError as error:
                raise StorageInternalError("during the commit") from error

    assert storage.insist(method) == "there"


def test_a_new_trial_has_its_owner_from_its_first_moment_on(patient):
    storage, _ = patient
    storage.attributes_of_new = lambda: {records.WORKER: "me"}
    trial = storage.get_trial(storage.create_new_trial(0))
    assert trial.state == TrialState.RUNNING
    assert trial.user_attrs == {records.WORKER: "me"}


# Signs of life


@pytest.fixture
def watch(monkeypatch):
    now = [0.0]

    class Clock:
        monotonic = staticmethod(lambda: now[0])

    monkeypatch.setattr("kopt.tuning._workers.pulse.time", Clock)

    def look(watch, seconds, *beats):
        now[0] += seconds
        trials = [
            optuna.trial.FrozenTrial(
                number=number,
                state=TrialState.RUNNING,
                value=None,
                datetime_start=None,
                datetime_complete=None,
                params={},
                distributions={},
                user_attrs={records.BEAT: beat},
                system_attrs={},
                intermediate_values={},
                trial_id=number,
            )
            for number, beat in enumerate(beats)
        ]
        watch.look(trials)
        return [watch.is_dead(trial) for trial in trials]

    return Watch(60), look


def test_only_trials_that_stand_still_are_dead(watch):
    watch, look = watch
    for beat in range(4):
        assert look(watch, 20, beat, None) == [False, False]
    assert look(watch, 1, 9, None) == [False, True]


def test_time_in_which_nobody_could_look_makes_nobody_dead(watch):
    watch, look = watch
    look(watch, 0, 1, 1)
    # The server was away, or this machine slept: all beats are old.
    assert look(watch, 7200, 1, 1) == [False, False]
    # The others have their time to come back.
    assert look(watch, 20, 1, 2) == [False, False]
    assert look(watch, 20, 1, 3) == [True, False]


# Parcels


def test_large_arrays_travel_as_one_map_that_nobody_can_write_to(tmp_path):
    large = np.arange(50_000, dtype="float32").reshape(100, 500)
    parts = {
        "data": ({"a": large, "b": np.asfortranarray(large)}, np.arange(3)),
        "build": lambda: large,
    }
    path = tmp_path / "arrays"
    parcel = packed(parts, path)
    assert len(parcel) < 10_000
    found = unpacked(parcel, path)
    (inputs, small), build = found["data"], found["build"]
    for array in (inputs["a"], inputs["b"], build()):
        np.testing.assert_array_equal(array, large)
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1
    small[0] = 7
    # One and the same file: what is written there is seen.
    with path.open("r+b") as file:
        file.write(np.float32(42).tobytes())
    assert inputs["a"][0, 0] == 42


def test_functions_of_a_script_travel_with_their_code(tmp_path):
    source = "def build(hp):\n    return helper(hp) + 1\ndef helper(hp):\n    return hp"
    script = {"__name__": "__main__"}
    exec(source, script)
    found = unpacked(packed({"f": script["build"]}, tmp_path / "a"), tmp_path / "a")
    assert found["f"](2) == 3


def test_registered_classes_of_a_script_are_registered_again(tmp_path):
    class Mine(keras.layers.Layer):
        pass

    Mine.__module__ = "__main__"
    keras.saving.register_keras_serializable("parcel", "Mine")(Mine)
    try:
        parcel = packed({}, tmp_path / "a")
    finally:
        del keras.saving.get_custom_objects()["parcel>Mine"]
    unpacked(parcel, tmp_path / "a")
    found = keras.saving.get_custom_objects().pop("parcel>Mine")
    assert keras.saving.get_registered_name(found) == "parcel>Mine"


class Bound:
    """Something that is copied, but does not leave its process."""

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        raise TypeError("bound to its process")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"data": tf.data.Dataset.range(3)},
            r"`data` \(_RangeDataset\) cannot be sent.*Give a function that makes",
        ),
        (
            {"callbacks": [Bound()]},
            r"`callbacks` \(list\) cannot be sent.*function of the trial",
        ),
        (
            {"validation_data": Bound()},
            r"`validation_data` .* cannot be sent",
        ),
    ],
)
def test_what_cannot_be_sent_is_named(tmp_path, changed, message):
    data = changed.pop("data", ([0], [0]))
    with pytest.raises(ParcelError, match=message):
        kopt.tuning.tune(
            lambda hp: None,
            data,
            objective="val_loss",
            budget=kopt.tuning.Budget(trials=1),
            directory=tmp_path,
            n_jobs=2,
            **changed,
        )
    assert not list(tmp_path.glob("workers/*.arrays"))


def test_a_build_function_that_holds_a_lock_is_named(tmp_path):
    lock = threading.Lock()

    def build(hp):
        with lock:
            return None

    with pytest.raises(ParcelError, match=r"`model_or_build`.*from outside"):
        kopt.tuning.tune(
            build,
            ([0], [0]),
            objective="loss",
            budget=kopt.tuning.Budget(trials=1),
            directory=tmp_path,
            n_jobs=2,
        )


# Shares of a machine


def test_cores_are_shared_out(monkeypatch):
    monkeypatch.setattr(resources, "cores", lambda: 8)
    found = resources.environment(1, 3, [], {"PATH": "/bin", "OMP_NUM_THREADS": "8"})
    assert found["OMP_NUM_THREADS"] == found["TF_NUM_INTRAOP_THREADS"] == "2"
    assert found["PATH"] == "/bin"
    assert "CUDA_VISIBLE_DEVICES" not in found
    assert resources.cores_of_each(20) == 1


def test_each_worker_has_a_gpu_of_its_own():
    devices = ["2", "5"]
    for workers, expected in ((2, ["2", "5"]), (3, ["2", "5", "2"])):
        found = [resources.environment(i, workers, devices, {}) for i in range(workers)]
        assert [one["CUDA_VISIBLE_DEVICES"] for one in found] == expected
        # Two that share one may not take all of its memory.
        shares = {one.get("TF_FORCE_GPU_ALLOW_GROWTH") for one in found}
        assert shares == ({"true"} if workers == 3 else {None})


@pytest.mark.parametrize(
    ("visible", "expected"),
    [("0,3", ["0", "3"]), ("-1", []), ("", []), ("1,-1,2", ["1"])],
)
def test_devices_are_those_that_this_process_may_use(visible, expected):
    assert resources.gpus({"CUDA_VISIBLE_DEVICES": visible}) == expected


@pytest.mark.skipif(
    sys.platform != "linux",
    reason="only Linux tells by /proc what is a process's own; elsewhere no limit acts",
)
def test_memory_that_is_shared_is_not_a_workers_own(tmp_path):
    limit = resources.memory_of_each(2)
    assert limit == pytest.approx(resources.memory_of_each(1) / 2, abs=1)
    before = resources.memory_in_use()
    own = np.ones(20_000_000, dtype="uint8")
    taken = resources.memory_in_use() - before
    assert 0.8 * own.nbytes < taken < 3 * own.nbytes
    parcel = packed({"x": own}, tmp_path / "a")
    before = resources.memory_in_use()
    found = unpacked(parcel, tmp_path / "a")["x"]
    assert found.sum() == own.nbytes
    assert resources.memory_in_use() - before < 0.3 * own.nbytes


# Storages


def test_a_password_is_shown_nowhere(tmp_path, caplog):
    with pytest.raises(StorageError) as caught:
        storage_of(ADDRESS, tmp_path)
    shown = f"{caught.value!r} {caught.value.__cause__!r} {caplog.text}"
    assert "secret" not in shown
    assert "me:***@nowhere" in shown
    with pytest.raises(StorageError) as caught:
        storage_of(ADDRESS.replace("secret", "{secret}"), tmp_path)
    assert "secret" not in str(caught.value)


def test_a_missing_driver_is_an_error_that_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StorageError, match=r'pip install "psycopg\[binary\]"'):
        storage_of(ADDRESS, tmp_path)


@pytest.mark.parametrize("storage", ["redis://localhost", "journal.log", 7])
def test_other_storages_are_refused_with_what_is_accepted(tmp_path, storage):
    with pytest.raises(StorageError, match=r"postgresql\+psycopg.*JournalFileBackend"):
        storage_of(storage, tmp_path)


@pytest.mark.parametrize("storage", [InMemoryStorage(), "sqlite://"])
def test_a_storage_in_memory_is_refused_for_several_processes(tmp_path, storage):
    with pytest.raises(StorageError, match="memory of this process"):
        analytic_search(lambda hp: [1.0], tmp_path, storage=storage, n_jobs=2)


def test_tables_that_several_workers_make_at_once_are_made_once(tmp_path):
    address = f"sqlite:///{tmp_path / 'a.db'}"
    barrier, made, errors = threading.Barrier(4), [], []

    def make():
        barrier.wait(10)
        try:
            made.append(storage_of(address, tmp_path))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and len(made) == 4
