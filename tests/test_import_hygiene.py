"""What starting a process costs: each front door loads only what it needs, checked in a fresh interpreter."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

TIMEOUT_S = 60
MAX_HELP_S = 1.0
"""The budget is 0.25 s on an idle machine; this limit only has to tell a slow machine from an import of torch (2.5 s)."""

HEAVY = ("torch", "textual", "numpy", "aiohttp", "pydantic", "psutil", "pynvml", "tokenizers", "rich", "typer")

ALLOWED = {
    "plt_tui": (),
    "plt_tui.cli.main": ("typer",),
    "plt_tui.cli.hub": (),
    "plt_tui.protocol.rank": (),
    "plt_tui.control.gauges": ("psutil",),
    "plt_tui.control.exports": (),
    "plt_tui.exporters.process": (),
    "plt_tui.control.hub": ("pydantic", "psutil"),
    "plt_tui.server.unix": ("pydantic", "psutil"),
    "plt_tui.server.http": ("pydantic", "psutil", "aiohttp"),
    "plt_tui.views.client": (),
    "plt_tui.views.address": (),
    "plt_tui.views.remote": ("pydantic",),
    "plt_tui.cli.stdio": ("typer",),
    "plt_tui.client.connection": ("pydantic", "numpy"),
    "plt_tui.client.record": ("pydantic", "numpy"),
    "plt_tui.views.console": ("pydantic",),
    "plt_tui.views.tui.app": ("pydantic", "textual", "rich", "numpy"),
    "plt_tui.data.prepare": ("pydantic", "numpy"),
}
"""Of HEAVY, what each module may load. torch is never among them: only ranks pay for it."""


def _run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def _cpu_s_of_children() -> float:
    """CPU time of the processes that this one has waited for: a busy machine may take much longer to give it to them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("module", ALLOWED)
def test_a_module_loads_only_what_it_needs(module: str) -> None:
    """Importing a module in a fresh interpreter leaves every heavy package out that is not allowed for it."""
    done = _run("-c", f"import sys, {module}; print(*(name for name in {HEAVY} if name in sys.modules))")
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) <= set(ALLOWED[module])


def test_help_lists_the_commands_at_once() -> None:
    """`plt-tui --help` works, names the commands, and is far from the time that importing torch takes."""
    best_s = float("inf")
    for _ in range(3):
        before_s = _cpu_s_of_children()
        done = _run("-m", "plt_tui", "--help")
        best_s = min(best_s, _cpu_s_of_children() - before_s)
        assert done.returncode == 0, done.stderr
        for command in ("run", "attach", "ls", "show", "logs", "ctl"):
            assert f"  {command} " in done.stdout
    assert best_s < MAX_HELP_S


def test_an_unknown_command_is_a_usage_error() -> None:
    """A wrong word on the command line exits 2, with the complaint on stderr and nothing on stdout."""
    done = _run("-m", "plt_tui", "trian")
    assert (done.returncode, done.stdout) == (2, "")
    assert "trian" in done.stderr
