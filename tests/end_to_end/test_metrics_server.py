"""`--serve-metrics` on a real run: JSON, Prometheus text and the WebSocket stream tell what the run itself tells."""

import asyncio
import json
import urllib.request
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.end_to_end.runs import at_step, command, finish, read_until, start


def get(url: str) -> bytes:
    """The body of an answer."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        body: bytes = answer.read()
        return body


async def first_step(url: str) -> dict[str, object]:
    """The first message of the stream that is a block of steps."""
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as stream:
        async for message in stream:
            event = json.loads(message.data)
            if event["kind"] == "steps":
                return dict(event)
    raise AssertionError("the stream ended first")


def test_a_run_can_be_watched_over_http(tmp_path: Path) -> None:
    """Loss, accuracy, throughput, utilisation and logs, three ways, while two ranks train."""
    process = start(
        tmp_path,
        "served",
        "train.steps=100000",
        "eval.every=10",
        "metrics.address=127.0.0.1:0",
        extra=("--serve-metrics",),
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
    assert asyncio.run(first_step(url.replace("http", "ws", 1) + "/api/v1/stream"))["count"]
    assert b"CPU threads" in get(f"{url}/api/v1/logs")
    command(tmp_path, "ctl", "served", "stop", "--now")
    finish(process, exit_code=143)
