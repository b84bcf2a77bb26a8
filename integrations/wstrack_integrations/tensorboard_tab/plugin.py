"""The plugin that TensorBoard finds by its entry point, and what it serves.

TensorBoard shows it in a frame of its own, under a content-security policy without inline scripts: those of the
report's page are allowed by their hashes. All addresses are relative, so that a `--path_prefix` does not matter.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from tensorboard.backend.http_util import Respond
from tensorboard.plugins.base_plugin import FrontendMetadata, TBPlugin
from werkzeug import Request, Response

if TYPE_CHECKING:
    from wstrack_integrations.tensorboard_tab.live import Live
    from wstrack_integrations.tensorboard_tab.runs import Listing, LogRun

__all__ = ["Tab", "log_directories"]

_MOST = 8  # combinations of runs that are kept in memory
_SCRIPT = re.compile(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script", re.DOTALL | re.IGNORECASE)


class Tab(TBPlugin):
    """See `tensorboard.plugins.base_plugin.TBPlugin`; what is heavy is imported when it is first asked for."""

    plugin_name = "wstrack"

    def __init__(self, context: Any) -> None:
        spec = getattr(context.flags, "logdir_spec", "") if context.flags else ""
        self._directories = log_directories(context.logdir or "", spec or "")
        self._listed: Listing | None = None
        self._runs: dict[tuple[str, str | None], LogRun] = {}
        self._lives: OrderedDict[tuple[tuple[str, ...], str | None, str | None], Live] = OrderedDict()
        self._lock = Lock()

    def is_active(self) -> bool:
        """Whether a run of wstrack is in the log directory."""
        return bool(self._listing.runs())

    def frontend_metadata(self) -> FrontendMetadata:
        """How TensorBoard shows it. It looks for what is new by itself."""
        return FrontendMetadata(es_module_path="/index.js", tab_name="wstrack", disable_reload=True)

    def get_plugin_apps(self) -> dict[str, Callable[..., Any]]:
        """What is served, by its route."""
        routes = {"/runs": self._serve_runs, "/state": self._serve_state, "/page": self._serve_page}
        scripts = {
            "/index.js": lambda request: _file(request, "index.js", "text/javascript"),
            "/index.css": lambda request: _file(request, "index.css", "text/css"),
            "/bokeh.js": _serve_library,
        }
        return {route: Request.application(answer) for route, answer in (routes | scripts).items()}

    @property
    def _listing(self) -> Listing:
        if self._listed is None:
            from wstrack_integrations.tensorboard_tab.runs import Listing

            self._listed = Listing(self._directories)
        return self._listed

    def _serve_runs(self, request: Request) -> Response:
        """The names of the runs, and of the one that was written to last."""
        try:
            runs = self._listing.runs(request.args.get("match") or None)
        except ValueError as error:
            return _json(request, {"runs": [], "said": str(error)})
        latest = max(runs, key=lambda name: _time(runs[name]), default=None)
        return _json(request, {"runs": list(runs), "latest": latest, "said": ""})

    def _serve_state(self, request: Request) -> Response:
        """What there is to show of the runs that are asked for; those that are gone are named."""
        try:
            live, gone, goes_on = self._asked(request)
        except ValueError as error:
            return _json(request, {"version": 0, "said": str(error), "metrics": [], "gone": []})
        state = live.look()
        tail = live.tail()
        if tail is not None and request.args.get("shown") == f"{state.version}/{tail['step']}":
            tail = None  # the page has it
        about = {"version": state.version, "said": state.said, "metrics": state.metrics, "busy": state.busy}
        return _json(request, {**about, "gone": gone, "goes_on": goes_on, "tail": tail})

    def _serve_page(self, request: Request) -> Response:
        """The page of the runs that are asked for, as it was last made."""
        try:
            page = self._asked(request)[0].look().page
        except ValueError:
            page = b""
        if not page:
            return _answer(request, "there is no such page yet", "text/plain", code=404)
        digests = [base64.b64encode(hashlib.sha256(code).digest()).decode() for code in _SCRIPT.findall(page)]
        return _answer(request, page, "text/html", csp_scripts_sha256s=digests)

    def _asked(self, request: Request) -> tuple[Live, list[str], bool]:
        """The report on the runs that a request names, which of them are gone, and whether one goes on.

        Raises:
            ValueError: it names none that was ever there, or has a `match` that is no regular expression.
        """
        from wstrack_integrations.tensorboard_tab.live import Live
        from wstrack_integrations.tensorboard_tab.runs import LogRun

        match, metric = request.args.get("match") or None, request.args.get("metric") or None
        there = self._listing.runs(match)
        with self._lock:
            names = tuple(dict.fromkeys(request.args.getlist("run")))
            for name in names:
                if name in there and (name, match) not in self._runs:
                    self._runs[name, match] = LogRun(there[name], match)
            runs = [self._runs[name, match] for name in names if (name, match) in self._runs]
            if not runs:
                raise ValueError("There is no such run in the log directory.")
            key = (names, match, metric)
            if key not in self._lives:
                self._lives[key] = Live(runs, metric, "bokeh.js")
            self._lives.move_to_end(key)
            while len(self._lives) > _MOST:
                self._lives.popitem(last=False)
            used = {(name, pattern) for names, pattern, _ in self._lives for name in names}
            self._runs = {one: run for one, run in self._runs.items() if one in used}
            live = self._lives[key]
        return live, [name for name in names if name not in there], any(run.goes_on() for run in runs)


def log_directories(logdir: str, spec: str = "") -> dict[str, Path]:
    """The directories that TensorBoard was started with, by the name that it puts before their runs.

    Args:
        logdir: of `--logdir`.
        spec: of `--logdir_spec`: directories with commas between, each with a name and a colon before it, or none.

    Example:
        >>> log_directories("", "a:runs/1,runs/2")
        {'a': PosixPath('runs/1'), 'runs/2': PosixPath('runs/2')}
    """
    if not spec:
        return {"": Path(logdir).expanduser()} if logdir and "://" not in logdir else {}
    found = {}
    for one in spec.split(","):
        name, colon, path = one.partition(":")
        if "://" not in one:
            found[name if colon else one] = Path(path if colon else one).expanduser()
    return found


def _time(place: Path) -> float:
    """When a run was last written to."""
    from wstrack.runs.growing import stamp
    from wstrack.runs.recording import FOLDER

    return max((about[3] for folder in (place, place / FOLDER) for about in stamp(folder)), default=0)


def _answer(request: Request, content: str | bytes, kind: str, **more: Any) -> Response:
    response: Response = Respond(request, content, kind, **more)
    return response


def _serve_library(request: Request) -> Response:
    from wstrack.reporting.page import library

    return _answer(request, "\n".join(library()), "text/javascript", expires=3600)


def _file(request: Request, name: str, kind: str) -> Response:
    return _answer(request, files("wstrack_integrations.tensorboard_tab").joinpath(name).read_bytes(), kind)


def _json(request: Request, said: dict[str, Any]) -> Response:
    return _answer(request, json.dumps(said), "application/json")
