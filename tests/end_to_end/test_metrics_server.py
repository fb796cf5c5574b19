"""`--serve-metrics` on a real run: JSON, Prometheus text and the WebSocket stream tell what the run itself tells."""

import asyncio
import json
import urllib.request
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from plt_tui.protocol.events import Steps
from plt_tui.protocol.framing import decode
from tests.end_to_end.runs import UNHURRIED, at_step, command, finish, read_until, start


def get(url: str) -> bytes:
    """The body of an answer."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        body: bytes = answer.read()
        return body


async def steps_over_breaks(url: str, breaks: int) -> list[float]:
    """The steps that a viewer hears that breaks off again and again, and goes on behind the last thing that it heard."""
    steps, after = list[float](), 0
    async with aiohttp.ClientSession(url) as session:
        for part in range(1, breaks + 2):
            async with session.ws_connect(f"/api/v1/stream?after={after}") as stream:
                while len(steps) < 10 * part:
                    event = decode(await stream.receive_str(timeout=10))
                    assert event.seq == 0 or event.seq > after
                    after = max(after, event.seq)
                    steps += event.column("step") if isinstance(event, Steps) else []
    return steps


async def viewers(url: str) -> list[tuple[str, str]]:
    """Who is told to look on, by actor and door, once this one is among them."""
    async with (
        aiohttp.ClientSession(url, headers={"X-Actor": "ana"}) as session,
        session.ws_connect("/api/v1/stream") as stream,
    ):
        while True:
            event = json.loads(await stream.receive_str(timeout=10))
            if event["kind"] == "viewers" and any(viewer["actor"] == "http ana" for viewer in event["viewers"]):
                async with session.get("/api/v1/viewers") as answer:
                    assert await answer.json() == event["viewers"]
                return [(viewer["actor"], viewer["door"]) for viewer in event["viewers"]]


def test_a_run_can_be_watched_over_http(tmp_path: Path) -> None:
    """Loss, accuracy, throughput, utilisation and logs, three ways, while two ranks train; also in pieces, and who looks on."""
    process = start(
        tmp_path,
        "served",
        "train.steps=100000",
        "eval.every=10",
        "metrics.address=127.0.0.1:0",
        extra=("--serve-metrics", *UNHURRIED),
    )
    lines = read_until(process, at_step(30))
    url = json.loads((tmp_path / "runs/served/run.json").read_text())["metrics_url"]
    shown = json.loads(get(f"{url}/api/v1/run"))
    assert (shown["name"], shown["state"], shown["world_size"]) == ("served", "running", 2)
    assert shown["last"]["tokens_per_s"] > 0
    assert 0 < shown["accuracy"] < 1
    history = json.loads(get(f"{url}/api/v1/metrics"))
    told = {line["step"]: line["loss"] for line in lines if line["kind"] == "step"}
    served = dict(zip(history["columns"]["step"], history["columns"]["loss"], strict=True))
    assert all(served[step] == loss for step, loss in told.items())
    families = {family.name for family in text_string_to_metric_families(get(f"{url}/metrics").decode())}
    assert any("loss" in name for name in families)
    assert any("tokens" in name for name in families)
    heard = asyncio.run(steps_over_breaks(url, 3))
    assert heard == list(range(1, len(heard) + 1))
    assert asyncio.run(viewers(url)) == [("console", "socket"), ("http ana", "http")]
    assert b"CPU threads" in get(f"{url}/api/v1/logs")
    command(tmp_path, "ctl", "served", "stop", "--now")
    finish(process, exit_code=143)
