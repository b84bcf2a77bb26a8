"""Real servers for the tests of MLflow and its benchmark: PostgreSQL and `mlflow server`, on free ports."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PATIENCE = 180  # seconds that a server may take to start
SERVED = "mlflow-artifacts:/0"  # where the first experiment has its artifacts: among the server's own


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Poll until `ready`; an error if the process ends before, or it takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} did not start")
        time.sleep(0.05)


@contextmanager
def group(command: Sequence[str], folder: Path, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, all of which is ended with the context."""
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(  # type: ignore[call-overload]
            command, cwd=folder, stdout=log, stderr=log, start_new_session=True, **options
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGINT if "postgres" in command[0] else signal.SIGKILL)
        process.wait()


def store_in(folder: Path, database: Path, artifacts: str) -> str:
    """A copy of MLflow's database without runs, whose first experiment has its artifacts there; its URI."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(database, folder / "mlflow.db")
    with sqlite3.connect(folder / "mlflow.db") as connection:
        connection.execute("update experiments set artifact_location = ?", (artifacts,))
    connection.close()
    return f"sqlite:///{folder}/mlflow.db"


@contextmanager
def mlflow_server(folder: Path, backend: str, port: int | None = None, *, workers: int = 1) -> Iterator[str]:
    """An MLflow server over a database; its URI. Each worker takes seconds to start."""
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    arguments = ["--backend-store-uri", backend, "--artifacts-destination", str(folder / "artifacts")]
    where = ["--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
    command = [sys.executable, "-m", "mlflow", "server", *arguments, *where]
    # Without its queues of jobs, which nothing here uses: eight more processes that import MLflow.
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment.pop("MLFLOW_TRACKING_URI", None)

    def answers() -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    with group(command, folder, env=environment) as process:
        wait_for(answers, process)
        yield f"http://127.0.0.1:{port}"


def postgres_folder() -> Path | None:
    """Where PostgreSQL's programs are; None if it is not installed."""
    if shutil.which("initdb"):
        return Path(shutil.which("initdb") or "").resolve().parent
    return next((path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)), None)


@contextmanager
def postgres(programs: Path) -> Iterator[str]:
    """A PostgreSQL server with a password; its URI for SQLAlchemy."""
    with tempfile.TemporaryDirectory() as scratch:  # pytest's own folders are closed to any other user
        folder = Path(scratch)
        secret = folder / "password"
        secret.write_text("planted-secret\n")
        user: dict[str, object] = {}
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            os.chown(secret, nobody.pw_uid, nobody.pw_gid)
            user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        data, port = str(folder / "data"), free_port()
        init = [str(programs / "initdb"), "-D", data, "-U", "mlflow", "-A", "scram-sha-256", f"--pwfile={secret}"]
        subprocess.run(init, check=True, capture_output=True, cwd=folder, **user)  # type: ignore[call-overload]
        where = ["-c", "listen_addresses=127.0.0.1", "-p", str(port), "-k", scratch]
        uri = f"postgresql+psycopg2://mlflow:planted-secret@127.0.0.1:{port}/postgres"

        def answers() -> bool:
            import psycopg2

            try:
                psycopg2.connect(uri.replace("+psycopg2", "")).close()
            except psycopg2.OperationalError:
                return False
            return True

        with group([str(programs / "postgres"), "-D", data, "-c", "fsync=off", *where], folder, **user) as process:
            wait_for(answers, process)
            yield uri
