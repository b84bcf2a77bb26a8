"""A stand-in for W&B's server: as much of its protocol as the real client needs to write a run and to read it back.

It is our reading of the protocol, not W&B's server. Failures are had on demand: `refuse` answers so many requests with
429, `delay` makes each answer slow, `interrupt` ends so many downloads half way.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["WANDB_KEY", "Server", "StoredRun"]

WANDB_KEY = "local" + "5ecre7" * 7

HEAVY = ("config", "summaryMetrics", "systemMetrics")
VIEWER = {
    "id": "dXNlcg==",
    "entity": "team",
    "username": "someone",
    "email": "someone@example.org",
    "flags": "{}",
    "name": "someone",
    "admin": False,
    "teams": {"edges": []},
    "apiKeys": {"edges": []},
}


@dataclass
class StoredRun:
    """What came for one run; rows before `exported` are handed out as a Parquet file, the others one by one."""

    name: str
    project: str
    display_name: str
    config: dict[str, Any] = field(default_factory=dict)
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    uploads: Counter[str] = field(default_factory=Counter)
    state: str = "running"
    created: str = "2026-01-01T00:00:00Z"
    exported: int = 0
    _parquet: tuple[int, bytes] = (0, b"")
    _keys: tuple[int, dict[str, Any]] = (-1, {})

    def keys(self) -> dict[str, Any]:
        """What is in the rows, counted once."""
        if self._keys[0] != len(self.rows):
            self._keys = len(self.rows), self._counted()
        return self._keys[1]

    def _counted(self) -> dict[str, Any]:
        counts = Counter(key for row in self.rows for key in row)
        known = {key: {"typeCounts": [{"type": "number", "count": n}], "monotonic": False} for key, n in counts.items()}
        return {"sets": [], "keys": known, "lastStep": self.rows[-1]["_step"] if self.rows else -1}

    def described(self) -> dict[str, Any]:
        project = {"id": "p", "name": self.project, "internalId": "1", "entity": {"id": "e", "name": "team"}}
        return {
            "id": self.name,
            "internalId": "2",
            "projectId": "1",
            "name": self.name,
            "displayName": self.display_name,
            "state": self.state,
            "config": json.dumps(self.config),
            "group": self.group,
            "jobType": None,
            "commit": None,
            "readOnly": False,
            "createdAt": self.created,
            "heartbeatAt": "2026-01-01T00:00:00Z",
            "description": "",
            "notes": "",
            "systemMetrics": "{}",
            "summaryMetrics": json.dumps(self.summary),
            "historyLineCount": len(self.rows),
            "logLineCount": 0,
            "eventsLineCount": 0,
            "historyTail": json.dumps([json.dumps(row) for row in self.rows[-1:]]),
            "eventsTail": "[]",
            "tags": self.tags,
            "sweepName": None,
            "user": {"name": "someone", "username": "someone"},
            "historyKeys": self.keys(),
            "host": "here",
            "project": project,
            "stopped": False,
            "wandbConfig": '{"t": 1}',  # without it a run counts as one that was never begun
            "fileCount": len(self.files),
        }

    def parquet(self) -> bytes:
        """The exported rows as a file, made once."""
        if self._parquet[0] != self.exported:
            self._parquet = self.exported, self._export()
        return self._parquet[1]

    def _export(self) -> bytes:
        rows = self.rows[: self.exported]
        keys = sorted({key for row in rows for key in row})
        columns = {key: [_number(row.get(key)) for row in rows] for key in keys}
        file = io.BytesIO()
        pq.write_table(pa.table(columns), file)
        return file.getvalue()


@dataclass
class StoredArtifact:
    """What came for one artifact; the manifest is one of its files."""

    run: str
    files: dict[str, bytes] = field(default_factory=dict)
    committed: bool = False


def _artifact(name: str, state: str) -> dict[str, Any]:
    return {"id": name, "state": state, "artifactSequence": {"latestArtifact": None}}


def _number(value: Any) -> Any:
    return float(value) if value in ("NaN", "Infinity", "-Infinity") else value


class Server:
    """The server, on a free port of this machine; a context manager."""

    def __init__(self) -> None:
        self.runs: dict[str, StoredRun] = {}
        self.artifacts: dict[str, StoredArtifact] = {}
        self.asked: Counter[str] = Counter()
        self.pages: list[tuple[int, int]] = []
        self.handed = 0  # runs in lists of runs
        self.refuse = 0
        self.delay = 0.0
        self.interrupt = 0
        self.alerts: list[tuple[str, str]] = []  # title and text
        self.heard: list[str] = []  # headers are left out: the key is there by right
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def store(self, name: str, rows: list[dict[str, Any]], **about: Any) -> StoredRun:
        """A run that is there already."""
        run = StoredRun(name, "p", name, rows=rows, **about)
        self.runs[name] = run
        return run

    # ---- what is asked over GraphQL ---------------------------------------------------------------------------------

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        found = re.search(r"\b(?:query|mutation)\s+(\w+)", query)
        operation = found[1] if found else ""
        self.asked[operation] += 1
        if "viewer" in query and "Run" not in operation and operation != "UpsertBucket":
            return {"viewer": VIEWER, "serverInfo": _info()}
        if "__type" in query or "__schema" in query:
            return {alias: {"fields": [], "inputFields": []} for alias in re.findall(r"(\w+)\s*:\s*__type", query)}
        if "serverInfo" in query:
            return {"serverInfo": _info()}
        method = getattr(self, f"_{operation}", None)
        if method is None:
            return {}
        answer = method(variables)
        assert isinstance(answer, dict)
        if operation == "Runs" and "summaryMetrics" not in query:  # what is lazy is had run by run
            for edge in answer["project"]["runs"]["edges"]:
                edge["node"] = {key: value for key, value in edge["node"].items() if key not in HEAVY}
        return answer

    def _UpsertBucket(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        name = asked["name"]
        run = self.runs.get(name)
        inserted = run is None
        if run is None:
            run = self.runs[name] = StoredRun(name, asked["project"], asked.get("displayName") or f"quiet-{name}")
        run.config.update(json.loads(asked.get("config") or "{}"))
        run.group = asked.get("groupName") or run.group
        run.tags = asked.get("tags") or run.tags
        return {"upsertBucket": {"bucket": run.described(), "inserted": inserted}}

    def _NotifyScriptableRunAlert(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self.alerts.append((asked["title"], asked["text"]))
        return {"notifyScriptableRunAlert": {"success": True}}

    def _RunResumeStatus(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        run = self.runs.get(asked["name"])
        return {
            "model": {"id": "p", "name": "p", "entity": {"id": "e", "name": "team"}, "bucket": run and run.described()}
        }

    def _CreateRunFiles(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        base = f"{self.url}/upload/{asked['run']}"
        files = [{"name": name, "uploadUrl": f"{base}/{name}"} for name in asked["files"]]
        return {"createRunFiles": {"runID": asked["run"], "uploadHeaders": [], "files": files}}

    def _Run(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        run = self.runs.get(asked["name"])
        return {"project": {"id": "p", "internalId": "1", "run": run and run.described()}}

    def _Runs(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        filters = json.loads(asked.get("filters") or "{}")
        wanted = sorted((run for run in self.runs.values() if _fits(run, filters)), key=lambda run: run.created)
        if asked.get("order", "").startswith("-"):
            wanted.reverse()
        first = int(asked.get("cursor") or 0)
        page = wanted[first : first + asked["perPage"]]
        end = first + len(page)
        self.handed += len(page)
        edges = [{"node": run.described(), "cursor": str(first + place + 1)} for place, run in enumerate(page)]
        info = {"endCursor": str(end), "hasNextPage": end < len(wanted)}
        listed = {"edges": edges, "pageInfo": info}
        return {"project": {"internalId": "1", "runCount": len(wanted), "readOnly": False, "runs": listed}}

    def _RunHistoryKeys(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"project": {"run": {"historyKeys": self.runs[asked["name"]].keys()}}}

    def _RunParquetHistory(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        run = self.runs[asked["runName"]]
        urls = [f"{self.url}/export/{run.name}/0000.parquet"] if run.exported else []
        return {"project": {"run": {"parquetHistory": {"parquetUrls": urls, "liveData": run.rows[run.exported :]}}}}

    def _HistoryPage(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        first, last = asked["minStep"], asked["maxStep"]
        self.pages.append((first, last))
        rows = [json.dumps(row) for row in self.runs[asked["run"]].rows if first <= row["_step"] < last]
        return {"project": {"run": {"history": rows}}}

    def _RunFiles(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        run = self.runs[asked["name"]]
        nodes = [
            {
                "id": name,
                "name": name,
                "url": f"{self.url}/download/{run.name}/{name}",
                "directUrl": f"{self.url}/download/{run.name}/{name}",
                "sizeBytes": len(content),
                "mimetype": "application/octet-stream",
                "updatedAt": "2026-01-01T00:00:00Z",
                "md5": "",
            }
            for name, content in run.files.items()
            if not asked.get("fileNames") or name in asked["fileNames"]
        ]
        edges = [{"node": node, "cursor": str(place)} for place, node in enumerate(nodes)]
        files = {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}
        return {"project": {"internalId": "1", "run": {"fileCount": len(nodes), "files": files}}}

    # ---- artifacts --------------------------------------------------------------------------------------------------

    def _ArtifactType(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"project": None}  # of that name there is none yet, so any type will do

    def _CreateArtifact(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        name = asked["input"]["artifactCollectionName"]
        self.artifacts[name] = StoredArtifact(asked["input"]["runName"])
        return {"createArtifact": {"artifact": _artifact(name, "PENDING")}}

    def _CreateArtifactManifest(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        name = asked["artifactID"]
        url = f"{self.url}/artifact/{name}/manifest" if asked["includeUpload"] else None
        file = {"id": name, "uploadUrl": url, "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": name, "file": file}}}

    def _CreateArtifactFiles(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        nodes = [
            {
                "name": spec["name"],
                "storagePath": f"{spec['artifactID']}/{spec['name']}",
                "uploadUrl": f"{self.url}/artifact/{spec['artifactID']}/{spec['name']}",
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": spec["artifactID"]},
            }
            for spec in asked["input"]["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def _CommitArtifact(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self.artifacts[asked["artifactID"]].committed = True
        return {"commitArtifact": {"artifact": {"id": asked["artifactID"], "digest": "d"}}}

    # ---- what is streamed and what is stored ------------------------------------------------------------------------

    def stream(self, name: str, sent: dict[str, Any]) -> None:
        run = self.runs[name]
        for file, chunk in sent.get("files", {}).items():
            # NaN and infinities, which JSON does not have, are handed out as words.
            known = file.endswith((".jsonl", ".json"))
            lines = [json.loads(line, parse_constant=str) for line in chunk["content"]] if known else []
            if file == "wandb-history.jsonl":
                run.rows[chunk["offset"] :] = lines
            elif file == "wandb-summary.json":
                run.summary = lines[-1]
        if sent.get("complete"):
            run.state = "finished" if sent.get("exitcode") == 0 else "failed"


def _info() -> dict[str, Any]:
    return {"features": [], "cliVersionInfo": {"max_cli_version": "99.0"}, "latestLocalVersionInfo": None}


def _fits(run: StoredRun, filters: Any) -> bool:
    """As much of the query language as the source uses; anything else is an error."""
    if "$and" in filters:
        return all(_fits(run, part) for part in filters["$and"])
    if "$or" in filters:
        return any(_fits(run, part) for part in filters["$or"])
    return all(_one_fits(_field(run, name), said) for name, said in filters.items())


def _field(run: StoredRun, name: str) -> list[Any]:
    """What a run has there, which may be several values, or none."""
    top, *inner = name.split(".")
    if top != "config":
        has = {"display_name": [run.display_name], "group": [run.group], "state": [run.state], "tags": run.tags}
        return {**has, "createdAt": [run.created]}[name]
    found: Any = run.config
    for key in inner:
        if not isinstance(found, dict) or key not in found:
            return []
        found = found[key]
    return [found]


def _one_fits(has: list[Any], said: Any) -> bool:
    if not isinstance(said, dict):
        return said in has
    fits = {
        "$exists": lambda value: bool(has) == value,
        "$regex": lambda value: any(re.search(value, each) for each in has if isinstance(each, str)),
        "$in": lambda value: any(each in value for each in has),
        "$ne": lambda value: value not in has,
        "$gte": lambda value: any(each >= value for each in has),
        "$lte": lambda value: any(each <= value for each in has),
    }
    return all(fits[sign](value) for sign, value in said.items())


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or each answer waits for the client to acknowledge its headers

        def do_POST(self) -> None:
            body = self._body()
            server.heard.append(self.path + body.decode(errors="replace"))
            if not self._willing():
                return
            path = urlsplit(self.path).path
            if path == "/graphql":
                asked = json.loads(body)
                data = server.answer(asked["query"], asked.get("variables") or {})
                self._reply(json.dumps({"data": data}).encode())
            elif path.endswith("/file_stream"):
                server.stream(path.split("/")[-2], json.loads(body))
                self._reply(b"{}")
            else:
                self._reply(b"", 404)

        def do_PUT(self) -> None:
            body = self._body()
            _, kind, name, file = unquote(urlsplit(self.path).path).split("/", 3)
            if kind == "artifact":
                server.artifacts[name].files[file] = body
            else:
                server.runs[name].files[file] = body
                server.runs[name].uploads[file] += 1
            self._reply(b"")

        def do_GET(self) -> None:
            if not self._willing():
                return
            _, kind, name, *rest = unquote(urlsplit(self.path).path).split("/", 3)
            run = server.runs.get(name)
            if kind == "export" and run is not None:
                self._send(run.parquet())
            elif kind == "download" and run is not None and rest[0] in run.files:
                self._send(run.files[rest[0]])
            else:
                self._reply(b"", 404)

        def _send(self, content: bytes) -> None:
            """A file; or half of it, and then the connection ends."""
            if server.interrupt <= 0:
                self._reply(content)
                return
            server.interrupt -= 1
            self._reply(content[: len(content) // 2], headers={"Content-Length": str(len(content))})
            self.close_connection = True

        def _willing(self) -> bool:
            time.sleep(server.delay)
            if server.refuse > 0:
                server.refuse -= 1
                self._reply(b'{"error":"rate limit exceeded"}', 429, {"Retry-After": "0"})
                return False
            return True

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "") == "chunked":
                body = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

        def _reply(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # the client resets idle connections when it exits
                super().handle()

    return Handler
