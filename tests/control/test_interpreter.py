"""Promises of `control.interpreter`: what it starts runs no file of the working folder, and is otherwise `python -m`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from plt_tui.cli.web import view_command
from plt_tui.control.exports import COMMAND
from plt_tui.control.interpreter import module_command


@pytest.mark.parametrize(
    "command", [module_command("plt_tui.cli.hub"), COMMAND, view_command(Path("/no/such"), is_steering=True)]
)
def test_files_of_the_working_folder_are_not_run(command: list[str], tmp_path: Path) -> None:
    """Whatever they are called: each of these processes gets to its own words."""
    for name in ("random", "socket", "runpy", "argparse", "typer", "plt_tui", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('this was run')")
    done = subprocess.run([*command, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage:" in done.stdout.lower()


def test_modules_are_found_where_the_starting_process_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout that is run without an installation is found again."""
    (tmp_path / "only_here.py").write_text("import sys\nif __name__ == '__main__':\n    print(sys.argv[1:], __spec__.name)")
    monkeypatch.syspath_prepend(tmp_path)
    done = subprocess.run([*module_command("only_here"), "--word"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "['--word'] only_here\n"
