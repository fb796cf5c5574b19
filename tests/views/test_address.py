"""Addresses of runs on other machines: what they mean, and that no part of them becomes an option or a word of a shell."""

from __future__ import annotations

import re
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.errors import UsageError
from plt_tui.views.address import Address, elsewhere, is_remote, parse, ssh_words


@pytest.mark.parametrize(
    ("text", "host", "user", "port", "run"),
    [
        ("ssh://gpu1/quick", "gpu1", "", None, "quick"),
        ("ssh://ana@gpu1.example:2222/quick", "gpu1.example", "ana", 2222, "quick"),
        ("ssh://ana@corp.example@gpu1/quick", "gpu1", "ana@corp.example", None, "quick"),
        ("ssh://gpu1", "gpu1", "", None, ""),
        ("ssh://gpu1/", "gpu1", "", None, ""),
        ("ssh://10.0.0.7/project/runs/quick/", "10.0.0.7", "", None, "project/runs/quick"),
        ("ssh://gpu1/~/project/runs/quick", "gpu1", "", None, "project/runs/quick"),
        ("ssh://gpu1//srv/runs/quick", "gpu1", "", None, "/srv/runs/quick"),
        ("ssh://[fe80::1%eth0]:22/quick", "fe80::1%eth0", "", 22, "quick"),
        ("ssh://gpu1/my%20runs/größe", "gpu1", "", None, "my runs/größe"),
    ],
)
def test_an_address_says_where_a_run_is(text: str, host: str, user: str, port: int | None, run: str) -> None:
    """Machine, user, port, and the run by name, by a folder seen from home, or by an absolute one."""
    assert is_remote(text)
    assert parse(text) == Address(text=text, host=host, user=user, port=port, run=run)


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "/quick",
        "@gpu1/quick",
        "-oProxyCommand=reboot/quick",
        "-F/quick",
        "-oProxyCommand=reboot@gpu1/quick",
        "ana@-oProxyCommand=reboot/quick",
        "ana:secret@gpu1/quick",
        "gpu1;reboot/quick",
        "$(reboot)/quick",
        "`reboot`@gpu1/quick",
        "gpu1 -v/quick",
        "gpu1\n/quick",
        "gpü/quick",
        "gpu1:0/quick",
        "gpu1:65536/quick",
        "gpu1:-1/quick",
        "gpu1:２２/quick",
        "gpu1:22x/quick",
        "[gpu1]/quick",
        "[::1/quick",
        "[::1%$(reboot)]/quick",
        "gpu1/-quick",
        "gpu1/%2dquick",
        "gpu1/a%0ab",
        "gpu1/%00",
        "gpu1/%1b[2J",
        "gpu1/\x1b[2J",
    ],
)
def test_what_ssh_or_a_shell_could_take_for_something_else_is_refused(rest: str) -> None:
    """With a sentence that a terminal can show."""
    with pytest.raises(UsageError) as refused:
        parse(f"ssh://{rest}")
    assert str(refused.value).isprintable()


def test_a_wrong_host_is_told_where_to_put_it() -> None:
    """ssh_config takes any name, and gives it one that is fine here."""
    with pytest.raises(UsageError, match=r"no address such as ssh://ana@gpu1:22/quickstart.*\.ssh/config"):
        parse("ssh://gpu 1/quick")


@given(st.text() | st.text(alphabet="ab09.-_/[]%2d $~"))
def test_whatever_is_typed_the_words_stay_apart(rest: str) -> None:
    """What is accepted gives ssh one host behind its last option, and the shell there the words that were meant."""
    try:
        address = parse(f"ssh://{rest}")
    except UsageError:
        return
    *options, end, host, there = ssh_words(address, "plt-tui")
    assert (end, host) == ("--", address.host)
    assert re.fullmatch(r"[A-Za-z0-9_:][A-Za-z0-9._:%-]*", host)
    assert all(not re.search(r"[^A-Za-z0-9._@+=-]", option) for option in options)
    assert shlex.split(there) == ["plt-tui", "attach", "--stdio", *(["--", address.run] if address.run else [])]


def test_ssh_is_told_no_more_than_it_must_know() -> None:
    """No terminal, no agent, no forwarding; user and port as options; what is left to the shell there in one word."""
    address = parse("ssh://ana@gpu1:2222/my runs/it's")
    words = ssh_words(address, " ~/venv/bin/plt-tui ", readonly=True, directory="-odd dir")
    assert words[:4] == ["ssh", "-T", "-a", "-x"]
    assert {"ClearAllForwardings=yes", "RemoteCommand=none", "ServerAliveInterval=10"} < set(words)
    assert words[-7:-1] == ["-p", "2222", "-l", "ana", "--", "gpu1"]
    assert words[-1].startswith("~/venv/bin/plt-tui attach")  # the tilde is for the shell there
    assert shlex.split(words[-1])[1:] == ["attach", "--stdio", "--readonly", "--dir=-odd dir", "--", "my runs/it's"]


@pytest.mark.parametrize("command", ["", "  ", "-oProxyCommand=reboot", " -v"])
def test_a_command_that_is_none_is_refused(command: str) -> None:
    """An older ssh reads options behind the host too."""
    with pytest.raises(UsageError, match="is no command for the other machine"):
        ssh_words(parse("ssh://gpu1/quick"), command)


def test_the_way_there_is_told_as_one_types_it() -> None:
    """Commands for a run on another machine go through ssh, and the way back is the address with its options."""
    place = elsewhere(parse("ssh://ana@gpu1:2222/my run"), "~/bin/plt-tui", "--remote-command '~/bin/plt-tui'")
    assert place.host == "gpu1"
    assert place.typed("plt-tui show quick") == "ssh -t -p 2222 ana@gpu1 '~/bin/plt-tui show quick'"
    assert place.typed("plt-tui attach quick") == f"plt-tui attach {place.again}"
    assert place.again == "'ssh://ana@gpu1:2222/my run' --remote-command '~/bin/plt-tui'"
    assert elsewhere(parse("ssh://gpu1/q")).typed("plt-tui ctl q stop") == "ssh -t gpu1 'plt-tui ctl q stop'"
    assert elsewhere(parse("ssh://gpu1/q")).again == "ssh://gpu1/q"
