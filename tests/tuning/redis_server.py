"""A Redis server of the tests' own, where its program is found."""

import shutil
import socket
import subprocess
import tempfile
import time
import warnings

import optuna
from optuna.storages.journal import JournalRedisBackend


def is_installed():
    return shutil.which("redis-server") is not None


def storage_at(address):
    """Optuna's journal on a server."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.storages.JournalStorage(JournalRedisBackend(address))


class Server:
    """A server on a free port of this machine, which writes every change down."""

    def __init__(self):
        self._folder = tempfile.mkdtemp(prefix="kopt-redis-")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.address = f"redis://127.0.0.1:{self._port}"

    def start(self):
        self._process = subprocess.Popen(
            ["redis-server", "--port", str(self._port), "--bind", "127.0.0.1",
             "--dir", self._folder, "--appendonly", "yes", "--save", ""],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self._port)).close()
                return
            except ConnectionRefusedError:
                time.sleep(0.05)
        raise TimeoutError("the server does not start")

    def stop(self):
        self._process.terminate()
        self._process.wait(60)

    def close(self):
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
