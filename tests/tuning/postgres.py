"""A PostgreSQL server of the tests' own, where its programs are found."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

USER, PASSWORD = "tuner", "s3cret-of-the-tests"


def program(name):
    """The path of a program of PostgreSQL, newest version first; or nothing."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    candidates = [folder / name for folder in folders]
    found = shutil.which(name)
    candidates += [Path(found)] if found else []
    return next((str(path) for path in candidates if path.exists()), None)


def is_installed():
    return all(program(name) for name in ("initdb", "pg_ctl", "createdb"))


class Server:
    """A server on a free port of this machine. As root it runs as another user."""

    def __init__(self):
        self._folder = Path(tempfile.mkdtemp(prefix="kopt-pg-"))
        self._data = self._folder / "pg"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self._folder, user.pw_uid, user.pw_gid)

    @property
    def address(self):
        return self.address_of("tuning")

    def address_of(self, database, password=PASSWORD):
        place = f"127.0.0.1:{self.port}/{database}"
        return f"postgresql+psycopg://{USER}:{password}@{place}"

    def start(self):
        if not self._data.exists():
            secret = self._folder / "secret"
            secret.write_text(PASSWORD)
            secret.chmod(0o644)
            self._run("initdb", "-D", self._data, "-A", "scram-sha-256", "-U", USER,
                      "--pwfile", secret, "--no-sync", "-E", "UTF8")  # fmt: skip
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self._folder}"
        self._run("pg_ctl", "-D", self._data, "-o", options, "-w", "-t", "120",
                  "-l", self._folder / "log", "start")  # fmt: skip

    def create(self, database):
        self._run("createdb", "-h", "127.0.0.1", "-p", self.port, "-U", USER, database)
        return self.address_of(database)

    def stop(self, mode="fast"):
        self._run("pg_ctl", "-D", self._data, "-w", "-m", mode, "stop")

    def close(self):
        try:
            self.stop("immediate")
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, name, *arguments):
        command = [program(name), *map(str, arguments)]
        if os.geteuid() == 0:
            command = ["setpriv", "--reuid=postgres", "--regid=postgres",
                       "--clear-groups", *command]  # fmt: skip
        done = subprocess.run(
            command,
            cwd=self._folder,
            env={**os.environ, "PGPASSWORD": PASSWORD, "LC_ALL": "C"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=180,
        )
        assert done.returncode == 0, done.stderr
