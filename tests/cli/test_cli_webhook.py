"""Promises of the commands about the webhook: the hub alone knows its address, and posts when nobody watches."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from plt_tui.cli import run as run_module
from plt_tui.cli.hub import start_process, wait_for_socket
from plt_tui.cli.run import _prepare, _Request, resolved_here
from plt_tui.config.load import from_toml, to_toml
from plt_tui.config.schema import ParallelSection, RunConfig
from plt_tui.control.folder import RunFolder
from plt_tui.control.secrets import keep_webhook, kept_webhook
from plt_tui.errors import StorageError
from tests.server.receivers import SECRET, receiving

DEADLINE_S = 60.0
URL = f"https://hooks.example.org/{SECRET}"
QUICK = ("data.train=text.txt", "parallel.device=cpu", "parallel.ranks=1")


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A working folder with a corpus, and the variables of who works there."""
    monkeypatch.chdir(tmp_path)
    variables: dict[str, str] = {}
    monkeypatch.setattr(run_module.os, "environ", variables)
    Path("text.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 200)
    return variables


def prepared(*sets: str, config: str = "") -> RunFolder:
    """The folder of run "a" once `run` has taken it; nobody holds it any more."""
    path = Path(config) if config else None
    named = {"--name": "a"}
    request = _Request(config=path, named=named, gpu=None, serve_metrics=False, sets=(*QUICK, *sets), resume=None, plugins=())
    made = _prepare(request)
    assert made.loaded.config.alerts.webhook == ""
    for lock in made.locks:
        os.close(lock)
    return made.folder


def texts_in(folder: Path) -> dict[str, str]:
    """Every file below `folder` but the one that holds the secret."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "webhook"]
    return {str(path): path.read_text(errors="replace") for path in files}


def set_by_option(environ: dict[str, str]) -> tuple[str, ...]:
    """By `--set`."""
    return (f"alerts.webhook={URL}",)


def set_by_environment(environ: dict[str, str]) -> tuple[str, ...]:
    """By a variable."""
    environ["PLT_WEBHOOK"] = URL
    return ()


def set_by_dotenv(environ: dict[str, str]) -> tuple[str, ...]:
    """By a line of `.env`."""
    Path(".env").write_text(f"PLT_WEBHOOK={URL}\n")
    return ()


@pytest.mark.parametrize("give", [set_by_option, set_by_environment, set_by_dotenv])
def test_the_address_lies_in_one_file_that_only_its_owner_reads(
    environ: dict[str, str], give: Callable[[dict[str, str]], tuple[str, ...]]
) -> None:
    """However it was given: it is kept with mode 0600, and no other file of the run holds it."""
    folder = prepared(*give(environ))
    assert kept_webhook(folder) == URL
    assert stat.S_IMODE(folder.webhook.stat().st_mode) == 0o600
    assert "given, and not written here" in folder.config.read_text()
    assert not any(SECRET in text for text in texts_in(folder.path).values())


def test_a_run_that_goes_on_by_its_name_still_calls(environ: dict[str, str]) -> None:
    """The kept address counts as long as nobody says otherwise; an empty one given by hand, or a file without, forgets it."""
    prepared(f"alerts.webhook={URL}")
    assert kept_webhook(prepared()) == URL
    environ["PLT_WEBHOOK"] = f"{URL}/other"
    assert kept_webhook(prepared()) == f"{URL}/other"
    environ.clear()
    assert kept_webhook(prepared()) == f"{URL}/other"
    assert not prepared("alerts.webhook=").webhook.exists()
    Path("mine.toml").write_text(f'[alerts]\nwebhook = "{URL}"\n')
    assert kept_webhook(prepared(config="mine.toml")) == URL
    Path("mine.toml").write_text("")
    assert not prepared(config="mine.toml").webhook.exists()


def test_what_a_run_would_use_is_shown_without_the_address(environ: dict[str, str]) -> None:
    """`show --config` says that there is one and where it came from."""
    environ["PLT_WEBHOOK"] = URL
    shown = resolved_here()
    assert SECRET not in shown
    assert 'webhook = ""  # environment PLT_WEBHOOK; given, and not written here' in shown
    assert from_toml(shown) == RunConfig()


def test_an_unreadable_address_is_none(tmp_path: Path) -> None:
    """Training needs no webhook: a file that is missing, a folder or no text stops nothing; one that cannot be kept does."""
    folder = RunFolder(tmp_path)
    assert kept_webhook(folder) == ""
    folder.webhook.write_bytes(b"\xff\xfe")
    assert kept_webhook(folder) == ""
    folder.webhook.unlink()
    folder.webhook.mkdir()
    assert kept_webhook(folder) == ""
    with pytest.raises(StorageError, match="run folder"):
        keep_webhook(folder, URL)


@pytest.mark.parametrize(
    ("entry", "answers", "kinds"),
    [
        ("trains", (200,), ["finish"]),
        ("raises_once", (200,), ["crash", "finish"]),
        ("raises_at_step_5", (200,), ["crash", "crash"]),
        ("trains", (500,), []),
    ],
)
def test_the_hub_posts_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, answers: tuple[int, ...], kinds: list[str]
) -> None:
    """With no view attached; its exit code and record are those of the run, and no file but its own holds the address."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.delenv("http_proxy", raising=False)
    monkeypatch.delenv("HTTP_PROXY", raising=False)
    folder = RunFolder(tmp_path / "big")
    folder.create(to_toml(RunConfig(parallel=ParallelSection(device="cpu", ranks=1))))

    async def scenario() -> tuple[int, list[bytes]]:
        async with receiving(*answers) as receiver:
            keep_webhook(folder, receiver.url)
            fake = f"tests.control.fake_ranks:{entry}"
            process = start_process(folder, resume="auto", locks=[folder.lock()], entry=fake)
            try:
                await wait_for_socket(folder, process)
                give_up_at = time.monotonic() + DEADLINE_S
                while (exit_code := process.poll()) is None:
                    assert time.monotonic() < give_up_at, "the hub has not ended"
                    await asyncio.sleep(0.02)
            finally:
                process.kill()
                process.wait()
            return exit_code, receiver.bodies

    exit_code, bodies = asyncio.run(scenario())
    assert exit_code == (4 if entry == "raises_at_step_5" else 0)
    told = [json.loads(body) for body in bodies]
    assert {value["run"] for value in told} == {"big"}
    if kinds:
        assert [value["kind"] for value in told] == kinds
    else:
        assert "the webhook was not told of 'finish': it answers 500" in (folder.logs / "hub.log").read_text()
    assert not any(SECRET in text for text in texts_in(folder.path).values())
