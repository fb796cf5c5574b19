"""A stand-in for W&B's server on this machine: as much of its GraphQL and of its file stream as wandb 0.31.0 asks for.

Found out with the package itself: a run is made, its history is appended line by line, and who resumes it gets the last line.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """Keeps one run."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.history: list[str] = []
        """The lines of wandb-history.jsonl."""
        self.exit_codes: list[int] = []
        self.run_names: set[str] = set()

    @property
    def address(self) -> str:
        """For WANDB_BASE_URL."""
        return f"http://127.0.0.1:{self.server_port}"

    def rows(self) -> list[dict[str, Any]]:
        """The history that was uploaded."""
        return [json.loads(line) for line in self.history]

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The data that a query asks for."""
        project = {"id": "p", "name": "plt-tui", "entity": {"id": "e", "name": "somebody"}}
        if "RunResumeStatus" in query:
            return {"model": {**project, "bucket": self._bucket(variables["name"]) if self.history else None}}
        if "upsertBucket" in query:
            self.run_names.add(str(variables["name"]))
            shown = {"displayName": variables.get("displayName"), "description": None, "sweepName": None, "project": project}
            bucket = {**self._bucket(variables["name"]), **shown}
            return {"upsertBucket": {"bucket": bucket, "inserted": not self.history}}
        if "createRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self.address}/upload/{name}"} for name in variables["files"]]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        viewer = {"id": "v", "entity": "somebody", "username": "somebody", "teams": {"edges": []}, "flags": "{}"}
        return {"serverInfo": {"features": []}, "viewer": viewer}

    def _bucket(self, name: str) -> dict[str, Any]:
        """The run as it is kept."""
        tail = self.history[-1:]
        return {
            "id": "r",
            "name": name,
            "historyLineCount": len(self.history),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": json.dumps(tail),
            "eventsTail": "[]",
            "summaryMetrics": tail[0] if tail else "{}",
            "config": "{}",
            "tags": [],
            "wandbConfig": '{"t": {}}',
        }

    def take(self, stream: dict[str, Any]) -> None:
        """Append what a file stream brings."""
        content = (stream.get("files") or {}).get("wandb-history.jsonl", {"offset": 0, "content": []})
        if content["content"]:
            self.history[content["offset"] :] = content["content"]
        if stream.get("complete"):
            self.exit_codes.append(stream["exitcode"])


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *words: object) -> None:
        """Nothing is printed."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if self.path == "/graphql":
            asked = json.loads(body)
            self._say({"data": self.server.answer(asked["query"], asked.get("variables") or {})})
        else:
            self.server.take(json.loads(body) if body else {})
            self._say({"exitcode": None, "limits": {}})

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._say({})

    def _say(self, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(body)


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server while the block runs, or until it is shut down in it."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
