"""Promises of `config.settings`: what can be used is used, and no file stops anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from plt_tui.config.schema import UiSection
from plt_tui.config.settings import KeySetting, Settings, UiChoices, parse_settings, read_settings, settings_file, state_folder

GOOD = """\
# mine
[ui]
theme = "nord"
chart = "ascii"
palette = "okabe-ito"
bell = "always"
low_bandwidth = true

[keys]
pause = "space,p"
log_axis = ""
"""


def test_a_file_gives_what_it_says() -> None:
    """Every key of [ui] and every line of [keys], these with the line where they stand."""
    found = parse_settings(GOOD, "s.toml")
    assert found.ui == UiChoices(theme="nord", chart="ascii", palette="okabe-ito", bell="always", low_bandwidth=True)
    assert found.keys == (
        KeySetting(id="pause", keys="space,p", place="s.toml:10"),
        KeySetting(id="log_axis", keys="", place="s.toml:11"),
    )
    assert found.problems == ()


def test_the_example_names_every_key_of_ui() -> None:
    """A new field of the section needs its line in the test above."""
    assert parse_settings(GOOD, "s.toml").ui.model_fields_set == set(UiChoices.model_fields)


def test_a_person_can_choose_what_a_run_can() -> None:
    """Every field of a run's [ui], with the same values, and the bell of its [alerts]."""
    chosen = {"chart": "ascii", "theme": "nord", "palette": "mono", "low_bandwidth": True}
    assert set(UiSection.model_fields) == set(chosen)
    assert Settings(ui=UiChoices(**chosen)).over(UiSection()) == UiSection(**chosen)
    assert set(UiChoices.model_fields) == {*UiSection.model_fields, "bell"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('chart = "dots"', 's.toml:2: ui.chart: expected "braille", "block" or "ascii", found text "dots"'),
        ("low_bandwidth = 1", "s.toml:2: ui.low_bandwidth: expected true or false, found 1"),
        ('themes = "nord"', "s.toml:2: ui.themes: unknown key; did you mean theme?"),
        ("x = 1", "s.toml:2: ui.x: unknown key; there are theme, chart, palette, bell and low_bandwidth"),
        ("keys.pause = 1", "s.toml:2: ui.keys: unknown key; there are theme, chart, palette, bell and low_bandwidth"),
        ('"a\\u001b[2J" = 1', r"s.toml:2: ui.a\x1b[2J: unknown key; there are theme, chart, palette, bell and low_bandwidth"),
        ("[keys]\npause = 1", 's.toml:3: keys.pause: expected text such as "x" or "x,ctrl+x", found 1'),
        ("[key]\npause = 1", "s.toml:2: key: unknown section; there are [ui], [keys] and [remote]"),
    ],
)
def test_a_wrong_line_is_named(line: str, said: str) -> None:
    """File, line, what was expected and what was found."""
    assert parse_settings(f"[ui]\n{line}\n", "s.toml").problems == (said,)


def test_the_command_of_another_machine() -> None:
    """By its name, or for all that have no line of their own; what is no command is told."""
    found = parse_settings('[remote]\ngpu1 = "~/bin/plt-tui"\n"*" = "plt"\nbad = "-v"\nworse = 3\n', "s.toml")
    assert [found.remote_command(host) for host in ("gpu1", "gpu2")] == ["~/bin/plt-tui", "plt"]
    assert found.problems == (
        's.toml:4: remote.bad: expected a command such as "~/venv/bin/plt-tui", found text "-v"',
        's.toml:5: remote.worse: expected a command such as "~/venv/bin/plt-tui", found 3',
    )
    assert Settings().remote_command("gpu1") == ""


def test_one_wrong_value_costs_only_itself() -> None:
    """The good lines before and after it are in force."""
    found = parse_settings('[ui]\nchart = "dots"\ntheme = "nord"\n[keys]\nundo = 3\npause = "x"', "s.toml")
    assert (found.ui.theme, found.ui.chart) == ("nord", None)
    assert [setting.id for setting in found.keys] == ["pause"]
    assert len(found.problems) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[ui]\ntheme = nord\n", "s.toml:2:9: not valid TOML"),
        ("ui = 3", "s.toml:1: ui: expected the section [ui], found 3"),
        (f"x = {'[' * 5000}", "s.toml"),
        (f"x = {'1' * 5000}", "s.toml"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(text: str, said: str) -> None:
    """The defaults hold, and one sentence names the place."""
    found = parse_settings(text, "s.toml")
    assert (found.ui, found.keys) == (UiChoices(), ())
    assert len(found.problems) == 1
    assert found.problems[0].startswith(said)


def test_what_the_person_chose_wins_over_the_run() -> None:
    """Only what they chose; everything else is as the run's configuration has it."""
    ui = UiSection(chart="block", theme="monokai")
    assert Settings(ui=UiChoices(theme="nord", bell="never")).over(ui) == ui.model_copy(update={"theme": "nord"})
    assert Settings().over(ui) == ui


def write(text: str | bytes) -> Path:
    """A settings file of the test's person."""
    path = settings_file(os.environ)
    assert path is not None
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_person_without_a_file_has_the_defaults() -> None:
    """No file and no folder are no problem."""
    assert read_settings(os.environ) == Settings()


def test_the_file_of_the_person_is_read() -> None:
    """From the folder that the environment names."""
    write("[ui]\ntheme = 'nord'\n[keys]\nnote = 'x'")
    found = read_settings(os.environ)
    assert found.ui.theme == "nord"
    assert found.keys[0].place.endswith("/config/plt-tui/settings.toml:4")
    assert found.problems == ()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[ui", b" " * (2 << 20)])
def test_a_file_that_is_no_settings_file_stops_nothing(content: bytes) -> None:
    """Other encodings, other forms and other sizes are told with the name of the file."""
    write(content)
    found = read_settings(os.environ)
    assert found.ui == UiChoices()
    assert len(found.problems) == 1
    assert "settings.toml" in found.problems[0]


def test_what_is_no_file_is_not_opened() -> None:
    """A folder or a pipe in its place is told; nobody waits for a pipe."""
    path = write("")
    path.unlink()
    path.mkdir()
    assert "is no settings file" in read_settings(os.environ).problems[0]
    path.rmdir()
    os.mkfifo(path)
    assert "is no settings file" in read_settings(os.environ).problems[0]


def test_folders_follow_the_xdg_specification() -> None:
    """The variables where they hold an absolute path, else the usual places under the home; none without a home."""
    home = {"HOME": "/home/ana"}
    assert settings_file(home) == Path("/home/ana/.config/plt-tui/settings.toml")
    assert state_folder(home) == Path("/home/ana/.local/state/plt-tui")
    assert settings_file({**home, "XDG_CONFIG_HOME": "/c"}) == Path("/c/plt-tui/settings.toml")
    assert state_folder({**home, "XDG_STATE_HOME": "relative"}) == Path("/home/ana/.local/state/plt-tui")
    assert state_folder({"HOME": "nowhere"}) is None


def test_a_place_in_the_home_is_told_as_one_writes_it(tmp_path: Path) -> None:
    """~ instead of a long path."""
    folder = tmp_path / ".config" / "plt-tui"
    folder.mkdir(parents=True)
    (folder / "settings.toml").write_text("[ui]\nx = 1")
    problems = read_settings({"HOME": str(tmp_path)}).problems
    assert problems[0].startswith("~/.config/plt-tui/settings.toml:2: ui.x: unknown key")
