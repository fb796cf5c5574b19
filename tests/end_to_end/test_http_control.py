"""Commands over HTTP on a real run of two ranks: what they do, who may send them, and where the token never is."""

from __future__ import annotations

import json
import socket
import stat
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from tests.end_to_end.runs import (
    UNHURRIED,
    at_step,
    command,
    end_of,
    ended,
    finish,
    options,
    processes_of,
    read_until,
    start,
    wait_until,
)

LONG = (
    "train.steps=1000000",
    "eval.every=0",
    "sample.every=0",
    "checkpoint.every=0",
    "metrics.address=127.0.0.1:0",
    "parallel.ranks=1",
)
COMMANDS = "/api/v1/commands"


def url_of(folder: Path, name: str) -> str:
    """Where the run is served."""
    url: str = json.loads((folder / "runs" / name / "run.json").read_text())["metrics_url"]
    return url


def token_of(folder: Path, name: str) -> str:
    """Its token."""
    return (folder / "runs" / name / "http-token").read_text()


def ask(url: str, body: dict[str, Any] | None = None, *, token: str = "", actor: str = "") -> tuple[int, Any]:
    """Status and JSON of a GET, or of a POST of `body`."""
    headers = {"Content-Type": "application/json"} if body is not None else {}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    headers |= {"X-Actor": actor} if actor else {}
    request = urllib.request.Request(url, json.dumps(body).encode() if body is not None else None, headers)
    try:
        with urllib.request.urlopen(request, timeout=90) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def places_of(token: str, folder: Path) -> list[str]:
    """Where the token stands: in any file below `folder` but its own, or in what the system tells of the run's processes."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "http-token"]
    found = [str(path) for path in files if token.encode() in path.read_bytes()]
    for process in processes_of(folder):
        try:
            told = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue
        found += [f"process {process.pid}"] * any(token in text for text in told)
    return found


def send_broken(url: str, token: str) -> None:
    """The token in requests that are none, which a server may be tempted to write into its log."""
    host, port = url.removeprefix("http://").split(":")
    upgrade = (
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    )
    for lines in (
        f"Authorization: Bearer {token}\x01",
        f"Authorization : Bearer {token}",
        f"{upgrade}\r\nSec-WebSocket-Protocol: bearer.{token}",
    ):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(f"GET /api/v1/stream HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n\r\n".encode())
            assert b" 400 " in connection.recv(64)


def test_a_run_is_steered_over_http(tmp_path: Path) -> None:
    """Pause, resume, a new rate and a stop by who has the token; each answer names the step, and the journal who asked."""
    process = start(tmp_path, "steered", *LONG, extra=("--http-control", *UNHURRIED))
    with ended(process):
        read_until(process, at_step(5))
        url, token = url_of(tmp_path, "steered"), token_of(tmp_path, "steered")
        assert stat.S_IMODE((tmp_path / "runs/steered/http-token").stat().st_mode) == 0o600

        for stranger in ("", "wrong", token[:-1]):
            assert ask(url + COMMANDS, {"name": "stop"}, token=stranger)[0] == 401
            assert ask(f"{url}/api/v1/run", token=stranger)[0] == 401

        status, paused = ask(url + COMMANDS, {"name": "pause", "id": "p1"}, token=token, actor="ana@laptop")
        assert (status, paused["status"]) == (200, "applied")
        wait_until(lambda: ask(f"{url}/api/v1/run", token=token)[1]["state"] == "paused")
        assert ask(f"{url}/api/v1/run", token=token)[1]["step"] == paused["step"]
        assert ask(url + COMMANDS, {"name": "pause", "id": "p1"}, token=token) == (200, paused)

        assert ask(url + COMMANDS, {"name": "set", "args": {"name": "lr", "value": -1}}, token=token)[0] == 409
        status, changed = ask(url + COMMANDS, {"name": "set", "args": {"name": "lr", "value": 0.0125}}, token=token)
        assert (status, changed["after"], changed["step"]) == (200, 0.0125, paused["step"] + 1)
        assert ask(url + COMMANDS, {"name": "resume"}, token=token)[0] == 200
        read_until(process, at_step(paused["step"] + 5))

        _, journal = ask(f"{url}/api/v1/journal", token=token)
        told = {(event["id"], event["name"]): event["actor"] for event in journal if event["kind"] == "command"}
        assert told["p1", "pause"] == "http ana@laptop"
        send_broken(url, token)
        assert places_of(token, tmp_path) == []

        status, stopped = ask(url + COMMANDS, {"name": "stop", "args": {"now": True}}, token=token)
        assert (status, stopped["status"]) == (200, "applied")
        lines = finish(process, exit_code=143)
    assert end_of(lines)["state"] == "stopped"
    assert not (tmp_path / "runs/steered/http-token").exists()
    assert places_of(token, tmp_path) == []
    assert "takes commands for who has the token in" in (tmp_path / "steered.stderr").read_text()


def test_a_run_that_is_shown_to_other_machines_takes_no_command(tmp_path: Path) -> None:
    """It needs a token, or is refused at once; 403 with it, 401 without, and who is at the machine steers it."""
    wide = "metrics.address=0.0.0.0:0"
    said = command(tmp_path, "run", "--no-ui", "--serve-metrics", "--name", "shown", *options(wide), exit_code=2)
    assert "metrics.token = true" in said
    assert not (tmp_path / "runs" / "shown").exists()
    process = start(tmp_path, "shown", *LONG, wide, "metrics.token=true", extra=("--serve-metrics", *UNHURRIED))
    with ended(process):
        read_until(process, at_step(5))
        url, token = url_of(tmp_path, "shown"), token_of(tmp_path, "shown")
        assert url.startswith("http://127.0.0.1:")
        status, refused = ask(url + COMMANDS, {"name": "pause"}, token=token)
        assert (status, "--http-control" in refused["error"]) == (403, True)
        assert ask(url + COMMANDS, {"name": "pause"})[0] == 401
        assert ask(f"{url}/api/v1/run", token=token)[1]["state"] == "running"
        read_until(process, at_step(ask(f"{url}/api/v1/run", token=token)[1]["step"] + 5))
        command(tmp_path, "ctl", "shown", "stop", "--now")
        finish(process, exit_code=143)


def test_a_token_dies_with_its_hub(tmp_path: Path) -> None:
    """However it ended: the next hub has another one, and without control none is left lying there."""
    process = start(tmp_path, "killed", *LONG, extra=("--http-control", *UNHURRIED))
    with ended(process):
        read_until(process, at_step(3))
        first = token_of(tmp_path, "killed")
        process.kill()
    wait_until(lambda: not processes_of(tmp_path))
    again = start(tmp_path, "killed", *LONG, extra=("--http-control", "--resume", "auto", *UNHURRIED))
    with ended(again):
        read_until(again, at_step(3))
        second, url = token_of(tmp_path, "killed"), url_of(tmp_path, "killed")
        assert first != second
        assert ask(f"{url}/api/v1/run", token=first)[0] == 401
        assert ask(f"{url}/api/v1/run", token=second)[0] == 200
        again.kill()
    wait_until(lambda: not processes_of(tmp_path))
    assert (tmp_path / "runs/killed/http-token").exists()
    third = start(
        tmp_path, "killed", *LONG, "metrics.control=false", "metrics.serve=false", extra=("--resume", "auto", *UNHURRIED)
    )
    with ended(third):
        read_until(third, at_step(3))
        assert not (tmp_path / "runs/killed/http-token").exists()
        command(tmp_path, "ctl", "killed", "stop", "--now")
        finish(third, exit_code=143)


def test_a_detached_run_says_where_it_is_served(tmp_path: Path) -> None:
    """And where its token lies; the token itself is nowhere in what is printed."""
    said = command(tmp_path, "run", "--detach", "--http-control", "--name", "afar", *options(*LONG), *UNHURRIED)
    assert f"{url_of(tmp_path, 'afar')} shows this run and takes commands for who has the token in" in said
    assert token_of(tmp_path, "afar") not in said
    command(tmp_path, "ctl", "afar", "stop", "--now")
    wait_until(lambda: not processes_of(tmp_path))
    assert not (tmp_path / "runs/afar/http-token").exists()
