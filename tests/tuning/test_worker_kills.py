"""Workers are killed and frozen, servers go away: exactly so many trials count."""

import itertools
import os
import random
import signal
import time

import pytest
import sqlalchemy

import kopt
from kopt.tuning._trials import records
from kopt.tuning._trials.errors import StorageError
from kopt.tuning._workers.storages import storage_of
from tests.tuning import postgres
from tests.tuning.nursery import GRACE, Nursery, check

pytestmark = pytest.mark.slow
MOMENTS = ("tables", "created", "drawing", "writing", "told", "buried", "claimed")


@pytest.fixture(scope="module")
def nursery(tmp_path_factory):
    nursery = Nursery(tmp_path_factory.mktemp("nursery"))
    yield nursery
    nursery.close()


@pytest.fixture(scope="module")
def server():
    if not postgres.is_installed():
        pytest.skip("PostgreSQL is not installed")
    server = postgres.Server()
    server.start()
    yield server
    server.close()


_databases = itertools.count()


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'study.db'}"
    server = request.getfixturevalue("server")
    return server.create(f"study{next(_databases)}")


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_worker_that_is_killed_at_a_named_moment_loses_nothing(
    moment, nursery, storage, tmp_path
):
    # Two folders, as on two machines: a lock tells nothing.
    first, second = tmp_path / "first", tmp_path / "second"
    if moment in ("claimed", "buried"):
        # Over the trial of one that died before.
        assert not nursery.wait(nursery.start(storage, first, 3, moment="told"))
    dead = nursery.start(storage, first, 3, moment=moment)
    assert not nursery.wait(dead)
    alive = nursery.start(storage, second, 3)
    assert nursery.wait(alive)
    results = check(storage, second, 3)
    states = [row["state"] for row in results.rows()]
    assert states.count("cut off") == {"tables": 0, "claimed": 2}.get(moment, 1)
    assert len(list(second.glob("*.keras"))) == 1


def test_the_last_trial_is_not_lost_with_its_worker(nursery, storage, tmp_path):
    dead = nursery.start(storage, tmp_path / "a", 1, moment="told")
    while not _trials(storage, tmp_path):
        time.sleep(0.02)
    alive = nursery.start(storage, tmp_path / "b", 1)
    assert nursery.wait(alive)
    assert not nursery.wait(dead)
    check(storage, tmp_path / "b", 1)


def test_workers_that_start_together_make_the_tables_once(nursery, storage, tmp_path):
    workers = [nursery.start(storage, tmp_path, 6) for _ in range(4)]
    assert all(nursery.wait(worker) for worker in workers)
    check(storage, tmp_path, 6)


def test_a_frozen_worker_wakes_up_and_nothing_counts_twice(nursery, storage, tmp_path):
    frozen = nursery.start(storage, tmp_path / "a", 40)
    while len(_trials(storage, tmp_path)) < 2:
        time.sleep(0.05)
    _freeze_in_a_trial(frozen, storage, tmp_path)
    others = [nursery.start(storage, tmp_path / "b", 40) for _ in range(2)]
    started = time.monotonic()
    while not any("cut off" == row["state"] for row in _trials(storage, tmp_path)):
        assert time.monotonic() - started < 60
        time.sleep(0.1)
    os.kill(frozen, signal.SIGCONT)
    assert all(nursery.wait(worker) for worker in [frozen, *others])
    check(storage, tmp_path / "b", 40)


def _freeze_in_a_trial(worker, storage, folder):
    """Stop a process that is neither between two trials nor in a transaction.

    A process that is stopped while it writes keeps its lock: nobody else can write.
    """
    while True:
        os.kill(worker, signal.SIGSTOP)
        if (
            _can_be_written(storage)
            and _trials(storage, folder)[-1]["state"] == "running"
        ):
            return
        os.kill(worker, signal.SIGCONT)
        time.sleep(0.05)


def _can_be_written(storage):
    is_file = storage.startswith("sqlite")
    waiting = {"timeout": 0} if is_file else {"options": "-c lock_timeout=100"}
    engine = sqlalchemy.create_engine(storage, connect_args=waiting)
    try:
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("UPDATE trials SET state = state"))
    except sqlalchemy.exc.OperationalError:
        return False
    finally:
        engine.dispose()
    return True


def _trials(storage, folder):
    try:
        return kopt.tuning.Results(folder, storage=storage).rows()
    except (ValueError, StorageError):
        return []


@pytest.mark.parametrize("seed", range(2))
def test_twenty_kills_at_random_moments_lose_nothing(nursery, storage, tmp_path, seed):
    chance = random.Random(seed)
    folders = [tmp_path / "a", tmp_path / "b"]
    workers = [nursery.start(storage, chance.choice(folders), 40) for _ in range(3)]
    killed = 0
    while killed < 20:
        time.sleep(chance.uniform(0.0, 0.6))
        place = chance.randrange(3)
        if nursery.lives(workers[place]) and not nursery.is_done(workers[place]):
            os.kill(workers[place], signal.SIGKILL)
            killed += 1
        workers[place] = nursery.start(storage, chance.choice(folders), 40)
    assert all(nursery.wait(worker) for worker in workers)
    check(storage, folders[0], 40)


@pytest.mark.parametrize("seed", range(2))
def test_kills_while_leaders_are_repeated_lose_nothing(
    nursery, storage, tmp_path, seed
):
    chance = random.Random(seed)

    def start():
        return nursery.start(storage, tmp_path, 17, confirm=3)

    workers = [start() for _ in range(3)]
    while len(_trials(storage, tmp_path)) < 7:
        time.sleep(0.02)
    for _ in range(12):
        time.sleep(chance.uniform(0.0, 0.4))
        place = chance.randrange(3)
        if nursery.lives(workers[place]) and not nursery.is_done(workers[place]):
            os.kill(workers[place], signal.SIGKILL)
        workers[place] = start()
    assert all(nursery.wait(worker) for worker in workers)
    results = check(storage, tmp_path, 17)
    found = results.study.get_trials(deepcopy=False)
    repeats = [
        (trial.user_attrs[records.REPEAT_OF], trial.user_attrs[records.REPEAT])
        for trial in found
        if records.is_repeat(trial) and trial.state in records.COUNTED
    ]
    assert len(repeats) == len(set(repeats)) == 9
    assert len({number for number, _ in repeats}) == 3
    assert len(list(tmp_path.glob("*.keras"))) == 1


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_is_restarted_costs_a_pause(nursery, server, tmp_path, mode):
    storage = server.create(f"study{next(_databases)}")
    workers = [nursery.start(storage, tmp_path, 40) for _ in range(3)]
    while len(_trials(storage, tmp_path)) < 4:
        time.sleep(0.05)
    server.stop(mode)
    try:
        time.sleep(2 * GRACE)
        assert all(nursery.lives(worker) for worker in workers)
    finally:
        server.start()
    assert all(nursery.wait(worker) for worker in workers)
    results = check(storage, tmp_path, 40)
    # Longer away than the grace, and yet nobody was called dead.
    assert not any("no sign of life" in line for line in results.why())


def test_a_wrong_password_is_an_error_without_it(server, tmp_path):
    for address, reason in (
        (server.address_of("postgres", "wr0ng"), "password authentication failed"),
        (server.address_of("nowhere"), 'database "nowhere" does not exist'),
    ):
        with pytest.raises(StorageError, match=reason) as caught:
            storage_of(address, tmp_path)
        assert "wr0ng" not in str(caught.value)
        assert postgres.PASSWORD not in str(caught.value)
