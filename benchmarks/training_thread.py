"""What a sample costs the training thread beside the measuring, whatever becomes of the tracker; prints Markdown.

Run it with `python benchmarks/training_thread.py` (some minutes). Each case trains in a process of its own: 1000
layers, a sample after every step, some milliseconds of other work in between. Rules judge on the thread that delivers;
what acting on them asks of the training thread is within the hand-over. W&B's server is the stand-in of the
tests, MLflow's is real, over SQLite, behind a proxy that can hold every request back.
"""

from __future__ import annotations

import contextlib
import datetime
import http.server
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

LAYERS, SAMPLES, LATE = 1000, 60, 5.0
ROOT = Path(__file__).resolve().parents[1]
RULES = {"none, rules": {"rules": "default"}, "none, rules that act": {"rules": "default", "act": "stop"}}
TRACKERS = ("none", *RULES, "tensorboard", "wandb", "mlflow")
SERVERS = ("wandb", "mlflow")
STATES = {"healthy": "healthy", "late": f"answers after {LATE:.0f} s", "dead": "dead"}


class _Nowhere:
    """A sink that keeps nothing: what is left is the measuring and the recording."""

    name, reference, recording_directory, recording_label = "none", None, None, ""

    def bind(self, directory: Path, *_: object) -> None:
        pass

    def write(self, samples: object) -> None:
        pass

    def close(self) -> None:
        pass


def train(tracker: str, state: str) -> None:
    """Train, watched, and print what the hand-over of a sample took; the server's state changes once all is open."""
    import torch

    import wstrack

    if tracker == "wandb":
        import wandb

        wandb.init(project="p")
    if tracker == "mlflow":
        import mlflow

        mlflow.start_run()
    model = torch.nn.Sequential(*(torch.nn.Linear(8, 8, bias=False) for _ in range(LAYERS)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    rules: dict[str, Any] = RULES.get(tracker, {})
    watcher = wstrack.watch(model, every=1, to=_Nowhere() if tracker.startswith("none") else tracker, **rules)
    put, wall, cpu, steps = watcher._measured.delivery.put, [], [], []

    def timed(reading: Any) -> None:
        start, thread = time.perf_counter(), time.thread_time()
        put(reading)
        wall.append(time.perf_counter() - start)
        cpu.append(time.thread_time() - thread)

    watcher._measured.delivery.put = timed  # type: ignore[method-assign]
    if watcher._acting is not None:
        heard = watcher._acting.heard

        def asked() -> list[Any]:
            start, thread = time.perf_counter(), time.thread_time()
            alerts = heard()
            if wall:  # beside the hand-over of the sample before
                wall[-1] += time.perf_counter() - start
                cpu[-1] += time.thread_time() - thread
            return alerts

        watcher._acting.heard = asked  # type: ignore[method-assign]
    work = torch.randn(700, 700)
    print("open", flush=True)
    sys.stdin.readline()  # until the server is as it should be
    for _ in range(SAMPLES):
        start = time.perf_counter()
        optimizer.step()
        work = torch.tanh(work @ work)
        steps.append(time.perf_counter() - start)
    print(json.dumps({"wall": wall, "cpu": cpu, "steps": steps}), flush=True)
    os._exit(0)  # what is not delivered yet is none of this benchmark's


@contextlib.contextmanager
def server(tracker: str, folder: Path) -> Iterator[tuple[str, subprocess.Popen[str] | None]]:
    """The tracker's server and its address; nothing for a tracker that has none."""
    if tracker not in SERVERS:
        yield "", None
        return
    command = [sys.executable, __file__, "serve", tracker, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.terminate()


def serve(tracker: str, folder: Path) -> None:
    """Serve until terminated; a line on the input makes every answer late."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # which ends the servers that were begun here
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "integrations")]
    if tracker == "wandb":
        from tests.integrations.wandb_server import Server

        with Server() as stand_in:
            print(stand_in.url, flush=True)
            sys.stdin.readline()
            stand_in.delay = LATE
            signal.pause()
    from mlflow_servers import mlflow_server

    with mlflow_server(folder, f"sqlite:///{folder}/mlflow.db") as uri:
        proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _proxy(uri))
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        print(f"http://127.0.0.1:{proxy.server_address[1]}", flush=True)
        sys.stdin.readline()
        _Proxy.delay = LATE
        signal.pause()


class _Proxy(http.server.BaseHTTPRequestHandler):
    """Hands requests on to a server, after a while."""

    delay = 0.0
    uri = ""

    def do_GET(self) -> None:
        self._hand_on(None)

    def do_POST(self) -> None:
        self._hand_on(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    do_PUT = do_POST  # noqa: N815  the name that the library looks for

    def _hand_on(self, body: bytes | None) -> None:
        time.sleep(self.delay)
        kept = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        request = urllib.request.Request(self.uri + self.path, body, kept, method=self.command)
        try:
            with urllib.request.urlopen(request) as answer:
                status, content = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


def _proxy(uri: str) -> type[_Proxy]:
    _Proxy.uri = uri
    return _Proxy


def measure(tracker: str, state: str) -> dict[str, list[float]]:
    """Seconds for each sample."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
        server(tracker, Path(scratch)) as (
            address,
            process,
        ),
    ):
        about = {
            "wandb": {"WANDB_BASE_URL": address, "WANDB_API_KEY": "local" + "0" * 40, "WANDB_SILENT": "true"},
            "mlflow": {"MLFLOW_TRACKING_URI": address, "MLFLOW_DISABLE_TELEMETRY": "true"},
        }.get(tracker, {})
        command = [sys.executable, __file__, "train", tracker, state]
        with subprocess.Popen(
            command,
            cwd=scratch,
            env={**os.environ, **about, "WANDB_CONSOLE": "off"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as trainer:
            assert trainer.stdout is not None
            assert trainer.stdin is not None
            while trainer.stdout.readline().strip() != "open":
                pass
            if state == "dead" and process is not None:
                process.terminate()
                process.wait()
            if state == "late" and process is not None and process.stdin is not None:
                process.stdin.write("late\n")
                process.stdin.flush()
            trainer.stdin.write("\n")
            trainer.stdin.flush()
            taken: dict[str, list[float]] = json.loads(trainer.stdout.readline())
            return taken


def main() -> None:
    """Measure and print."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "wandb", "mlflow", "tensorboard"))
    print(f"{datetime.date.today()}; {os.cpu_count()} cores, Python {platform.python_version()}, {libraries}; ", end="")
    print(f"{SAMPLES} samples of {LAYERS:,} layers in each case.\n")
    print("| tracker | its server | hand-over, median | 95 % under | of the median, busy | whole step, median |")
    print("|---|---|---|---|---|---|")
    for tracker in TRACKERS:
        for state, words in STATES.items():
            if tracker not in SERVERS and state != "healthy":
                continue
            taken = measure(tracker, state)
            median, busy, step = (statistics.median(taken[what]) * 1000 for what in ("wall", "cpu", "steps"))
            high = statistics.quantiles(taken["wall"], n=20)[-1] * 1000
            shown = words if tracker in SERVERS else "–"
            row = f"| {tracker} | {shown} | {median:.3f} ms | {high:.3f} ms | {busy:.3f} ms | {step:.0f} ms |"
            print(row, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2], Path(sys.argv[3]))
    elif sys.argv[1:2] == ["train"]:
        train(sys.argv[2], sys.argv[3])
    else:
        main()
