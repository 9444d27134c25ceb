"""Workers on Optuna's journal in Redis are killed, and its server is restarted."""

import os
import random
import signal
import time

import pytest

from tests.tuning import redis_server
from tests.tuning.nursery import GRACE, Nursery, check

pytest.importorskip("redis")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nursery(tmp_path_factory):
    nursery = Nursery(tmp_path_factory.mktemp("nursery"))
    yield nursery
    nursery.close()


@pytest.fixture
def server():
    if not redis_server.is_installed():
        pytest.skip("Redis is not installed")
    server = redis_server.Server()
    server.start()
    yield server
    server.close()


@pytest.mark.thorough
def test_twenty_kills_at_random_moments_lose_nothing(nursery, server, tmp_path):
    chance = random.Random(0)
    # Two folders, as on two machines: a lock tells nothing.
    folders = [tmp_path / "a", tmp_path / "b"]

    def start():
        return nursery.start(server.address, chance.choice(folders), 40)

    workers, killed = [start() for _ in range(3)], 0
    while killed < 20:
        time.sleep(chance.uniform(0.0, 0.6))
        place = chance.randrange(3)
        if nursery.lives(workers[place]) and not nursery.is_done(workers[place]):
            os.kill(workers[place], signal.SIGKILL)
            killed += 1
        workers[place] = start()
    assert all(nursery.wait(worker) for worker in workers)
    check(server.address, folders[0], 40)


def test_a_server_that_is_restarted_costs_a_pause(nursery, server, tmp_path):
    workers = [nursery.start(server.address, tmp_path, 40) for _ in range(3)]
    storage = redis_server.storage_at(server.address)
    while not storage.get_all_studies() or storage.get_n_trials(0) < 4:
        time.sleep(0.05)
    server.stop()
    try:
        time.sleep(2 * GRACE)
        assert all(nursery.lives(worker) for worker in workers)
    finally:
        server.start()
    assert all(nursery.wait(worker) for worker in workers)
    check(server.address, tmp_path, 40)
