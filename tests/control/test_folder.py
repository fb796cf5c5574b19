"""Promises of `control.folder`: one holder at a time, files that are old or new, names that are found or explained."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plt_tui.control import folder as folder_module
from plt_tui.control.folder import (
    MAX_SOCKET_PATH,
    RunFolder,
    RunInfo,
    find_run,
    fresh_folder,
    host_name,
    list_runs,
)
from plt_tui.errors import RunInUse, StorageError, UsageError
from plt_tui.protocol.commands import NAME_PATTERN
from plt_tui.protocol.durable import replace_file
from tests.another_user import shared_folder, without_rights

INFO = RunInfo(name="a", host="box", pid=4711, boot_id="b", socket="/s", phase="running", metrics_url="http://x")
NOW = time.struct_time((2026, 11, 22, 9, 5, 0, 6, 326, 0))
HOLDER = """
import sys
from pathlib import Path
from plt_tui.control.folder import RunFolder
descriptor = RunFolder(Path(sys.argv[1])).lock()
print("held", flush=True)
sys.stdin.read()
"""

RIVAL = """
import os, sys
from pathlib import Path
from plt_tui.control import folder as folder_module
from plt_tui.errors import RunInUse
folder_module.LOCK_PATIENCE_S = 0.2
folder = folder_module.RunFolder(Path(sys.argv[1]))
held = None
print("ready", flush=True)
for word in sys.stdin:
    if word == "take\\n":
        try:
            held, said = folder.lock(), "held"
        except RunInUse as error:
            said = str(error)
    else:
        if held is not None:
            os.close(held)
        held, said = None, "dropped"
    print(said, flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run's folder with its configuration."""
    made = RunFolder(tmp_path / "runs" / "a")
    made.create("[run]\n")
    return made


def held_elsewhere(folder: RunFolder) -> subprocess.Popen[bytes]:
    """Another process that holds the run; returns once it does."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def ended(process: subprocess.Popen[bytes]) -> None:
    """The process gone and its pipes closed."""
    process.kill()
    process.communicate()


def test_creating_the_object_touches_nothing(tmp_path: Path) -> None:
    """Asking about a run does not make one."""
    asked = RunFolder(tmp_path / "none")
    assert (asked.exists, asked.is_live(), asked.read_info()) == (False, False, None)
    assert list(tmp_path.iterdir()) == []


def test_a_created_run_is_there_and_private(folder: RunFolder) -> None:
    """The configuration is written, the folders are made, and nobody else may read them."""
    assert folder.exists
    assert folder.config.read_text() == "[run]\n"
    assert {path.stat().st_mode & 0o777 for path in (folder.logs, folder.checkpoints)} == {0o700}
    assert folder.config.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    """The message has the path and the way out."""
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(StorageError, match=r"runs/a: cannot create the run folder: .*; choose another --set run\.dir"):
        RunFolder(tmp_path / "runs" / "a").create("")


def test_creating_again_forgets_the_hub_that_was_killed(folder: RunFolder, own_folders: Path) -> None:
    """Views would wait at its socket."""
    path = own_folders / "dead.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    folder.write_info(replace(INFO, socket=str(path)))
    folder.create("")
    assert not path.exists()
    assert folder.read_info() is None


def test_creating_again_removes_nothing_else(folder: RunFolder, tmp_path: Path, own_folders: Path) -> None:
    """A copied `run.json` names the socket of a hub that lives, and a forged one any file."""
    treasure, path = tmp_path / "treasure", own_folders / "live.sock"
    treasure.write_text("mine")
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(path))
        live.listen()
        for victim in (treasure, path, tmp_path, tmp_path / "missing"):
            folder.write_info(replace(INFO, socket=str(victim)))
            folder.create("")
        assert treasure.read_text() == "mine"
        assert path.is_socket()
    path.unlink()


def test_the_info_comes_back(folder: RunFolder) -> None:
    """What the hub wrote is what a view reads."""
    folder.write_info(INFO)
    assert folder.read_info() == INFO


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": "a"}', '{"mood": 1}', "\x00" * 64, "null"])
def test_an_unreadable_info_is_none(folder: RunFolder, content: str) -> None:
    """A `run.json` of another version or of a crash is like none."""
    (folder.path / "run.json").write_text(content)
    assert folder.read_info() is None


def test_two_holders_in_one_process_are_refused_and_named(folder: RunFolder) -> None:
    """The second one learns who holds the run and how to watch it; after the first let go it gets it."""
    first = folder.lock()
    folder.write_info(INFO)
    with pytest.raises(RunInUse, match=r"in use by process 4711 on box; watch it with: plt-tui attach a"):
        folder.lock()
    os.close(first)
    os.close(folder.lock())


def test_a_holder_in_another_process_keeps_the_run_until_it_dies(folder: RunFolder) -> None:
    """However it dies: after SIGKILL the run is free at once."""
    process = held_elsewhere(folder)
    try:
        assert folder.is_live()
        with pytest.raises(RunInUse, match=rf"is in use by process {process.pid} on .*; watch it"):
            folder.lock()
    finally:
        ended(process)
    assert not folder.is_live()
    os.close(folder.lock())


def test_who_is_refused_is_told_of_the_holder_and_not_of_the_one_before(folder: RunFolder) -> None:
    """A holder that has not written `run.json` yet is known all the same; a killed one's file names nobody."""
    os.close(folder.lock())
    folder.write_info(INFO)
    os.utime(folder.path / "run.json", (1e9, 1e9))
    process = held_elsewhere(folder)
    try:
        with pytest.raises(RunInUse, match=rf"in use by process {process.pid} on {re.escape(host_name())}; watch it"):
            folder.lock()
        folder.write_info(INFO)
        with pytest.raises(RunInUse, match=r"in use by process 4711 on box; watch it"):
            folder.lock()
    finally:
        ended(process)


def test_one_of_two_who_want_a_run_at_once_gets_it(folder: RunFolder) -> None:
    """Twenty times: one holds it, and whoever comes then is told by whom."""
    rivals = [
        subprocess.Popen(
            [sys.executable, "-c", RIVAL, str(folder.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]

    def tell(word: str) -> None:
        for rival in rivals:
            assert rival.stdin is not None
            rival.stdin.write(word)
            rival.stdin.flush()

    def hear() -> list[str]:
        return [rival.stdout.readline() for rival in rivals if rival.stdout is not None]

    assert hear() == ["ready\n"] * 2
    try:
        for _ in range(20):
            tell("take\n")
            said = hear()
            assert sorted(line.startswith(f"{folder.path} is in use") for line in said) == [False, True]
            winner = rivals[said.index("held\n")].pid
            with pytest.raises(RunInUse, match=rf"in use by process {winner} on {re.escape(host_name())}; watch it"):
                folder.lock()
            tell("drop\n")
            assert hear() == ["dropped\n"] * 2
    finally:
        for rival in rivals:
            ended(rival)


def test_the_lock_is_taken_where_not_a_word_can_be_written(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk leaves unsaid who holds the run, but held it is."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder_module.os, "pwrite", full)
    descriptor = folder.lock()
    with pytest.raises(RunInUse, match="is in use; watch it"):
        folder.lock()
    os.close(descriptor)


def test_asking_whether_a_run_is_live_does_not_keep_others_from_taking_it(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`is_live` holds the lock for a moment; whoever wants the run just then waits for it instead of failing."""
    monkeypatch.setattr(folder_module, "LOCK_PATIENCE_S", 20.0)
    descriptor = os.open(folder.path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    release = threading.Timer(0.1, os.close, [descriptor])
    release.start()
    os.close(folder.lock())
    release.join()


def test_a_held_run_is_live_and_a_free_one_is_not(folder: RunFolder) -> None:
    """Asking changes nothing: it can be repeated, and leaves the lock with its holder."""
    assert not folder.is_live()
    descriptor = folder.lock()
    assert [folder.is_live(), folder.is_live()] == [True, True]
    os.close(descriptor)
    assert not folder.is_live()


def test_the_lock_is_not_inherited_by_what_the_holder_starts(folder: RunFolder) -> None:
    """A child that outlives a killed hub must not keep the run."""
    descriptor = folder.lock()
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)


def test_a_lock_that_cannot_be_taken_at_all_is_a_storage_error(folder: RunFolder) -> None:
    """No permission, or a file system without locks: a sentence, not a traceback."""
    (folder.path / "lock").mkdir()
    with pytest.raises(StorageError, match=r"runs/a: cannot take the run's lock: .*; choose another"):
        folder.lock()


@pytest.mark.parametrize("length", [10, 60, 200])
def test_the_socket_path_is_short_and_its_folder_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    """With or without a runtime folder, however deep the run lies: at most 107 bytes, and nobody else may enter the folder."""
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    deep = RunFolder(tmp_path / ("d" * length) / "a")
    deep.create("")
    path = deep.socket_path()
    assert len(os.fsencode(path)) <= MAX_SOCKET_PATH
    assert path.parent.stat().st_uid == os.getuid()
    assert path.parent.stat().st_mode & 0o077 == 0


def test_the_socket_lies_in_the_runtime_folder_if_there_is_one(folder: RunFolder, own_folders: Path) -> None:
    """It may not be copied with the run, and network file systems take no sockets."""
    path = folder.socket_path()
    assert path.parent == own_folders / "plt-tui"
    assert path.name == f"a-{os.getpid()}.sock"


@pytest.mark.parametrize("trap", ["missing", "file", "link", "long", "open"])
def test_an_unusable_runtime_folder_is_left_alone(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trap: str
) -> None:
    """A link laid by somebody else, a file in its place, a missing, a too deep or an open folder: the next place is taken."""
    runtime = tmp_path / ("r" * 120 if trap == "long" else "r")
    if trap != "missing":
        runtime.mkdir()
    if trap == "file":
        (runtime / "plt-tui").write_text("")
    if trap == "open":
        (runtime / "plt-tui").mkdir()
        (runtime / "plt-tui").chmod(0o755)
    if trap == "link":
        (tmp_path / "elsewhere").mkdir()
        (runtime / "plt-tui").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    assert runtime not in folder.socket_path().parents


def test_no_place_for_a_socket_is_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to set."""
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    deep = tmp_path / ("d" * 120)
    monkeypatch.setattr(folder_module.tempfile, "gettempdir", lambda: str(deep))
    with pytest.raises(StorageError, match="set XDG_RUNTIME_DIR"):
        RunFolder(deep / "a").socket_path()


@pytest.mark.parametrize("trap", ["file", "link"])
def test_a_replaced_file_trusts_nothing_that_was_laid_there(tmp_path: Path, trap: str) -> None:
    """A file that others can read, or a link, where the new content is written first: the content reaches neither."""
    other, temporary = tmp_path / "other", tmp_path / ".token.tmp"
    other.write_text("")
    if trap == "link":
        temporary.symlink_to(other)
    else:
        temporary.touch()
        temporary.chmod(0o666)
        other = temporary
    with other.open() as theirs:
        replace_file(tmp_path / "token", b"secret")
        assert theirs.read() == ""
    assert (tmp_path / "token").read_text() == "secret"
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600


def test_a_replaced_file_is_old_or_new_for_every_reader(tmp_path: Path) -> None:
    """A reader in a loop never sees an empty or a mixed file while a writer replaces it."""
    path = tmp_path / "run.json"
    contents = {letter * 100_000 for letter in ("a", "b")}
    replace_file(path, b"a" * 100_000)
    stop, seen = threading.Event(), set[str]()

    def read() -> None:
        while not stop.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(20):
        for content in contents:
            replace_file(path, content.encode())
    stop.set()
    reader.join()
    assert seen <= contents
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]


def test_a_failed_replacement_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk costs neither the old content nor a stray piece."""
    path = tmp_path / "run.json"
    replace_file(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder_module.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]


def make_runs(root: Path, *names: str) -> None:
    """Runs under `root`, the last one the newest."""
    for age, name in enumerate(reversed(names)):
        run = RunFolder(root / name)
        run.create("")
        os.utime(run.config, (1e9 - age, 1e9 - age))


def test_runs_are_listed_newest_first(tmp_path: Path) -> None:
    """Only folders with a configuration and a proper name are runs."""
    make_runs(tmp_path, "old", "new")
    make_runs(tmp_path, ".hidden")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert [run.name for run in list_runs(tmp_path)] == ["new", "old"]
    assert list_runs(tmp_path / "nowhere") == []


def test_a_folder_that_is_closed_to_us_hides_no_other() -> None:
    """A run of another user in a shared folder of runs is passed over: it is none for us, by its path too."""
    with shared_folder() as runs:
        make_runs(runs, "old", "closed", "new")
        (runs / "closed").chmod(0)
        with without_rights():
            assert [run.name for run in list_runs(runs)] == ["new", "old"]
            assert not RunFolder(runs / "closed").exists
            with pytest.raises(UsageError, match="closed is not a run folder"):
                find_run(runs, str(runs / "closed"))


def test_a_run_that_goes_while_it_is_listed_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody removes it between two looks at its configuration; the others are listed."""
    make_runs(tmp_path, "old", "going", "new")
    stat = Path.stat

    def stat_once(path: Path, **options: bool) -> os.stat_result:
        status = stat(path, **options)
        if path.name == "config.toml" and path.parent.name == "going":
            path.unlink()
        return status

    monkeypatch.setattr(Path, "stat", stat_once)
    assert {run.name for run in list_runs(tmp_path)} >= {"new", "old"}
    assert [run.name for run in list_runs(tmp_path)] == ["new", "old"]


def test_a_folder_of_runs_that_cannot_be_read_is_said() -> None:
    """It is not the same as one without runs."""
    with shared_folder() as folder:
        runs = folder / "runs"
        make_runs(runs, "a")
        runs.chmod(0)
        with without_rights(), pytest.raises(StorageError, match="runs cannot be read: Permission denied; choose another"):
            list_runs(runs)
        (folder / "file").write_text("")
        with pytest.raises(StorageError, match="file cannot be read: Not a directory"):
            find_run(folder / "file", "a")


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_where_no_folder_can_be_there_is_no_run(tmp_path: Path, name: str) -> None:
    """A name that the file system refuses to look at is no error: whoever wants to make the folder is told."""
    assert not RunFolder(tmp_path / name).exists


@pytest.mark.parametrize(
    ("asked", "found"), [("alpha", "alpha"), ("alp", "alpha"), ("beta-1", "beta-1"), ("beta-10", "beta-10")]
)
def test_a_run_is_found_by_name_or_unique_beginning(tmp_path: Path, asked: str, found: str) -> None:
    """An exact name wins over others that begin with it."""
    make_runs(tmp_path, "alpha", "beta-1", "beta-10")
    assert find_run(tmp_path, asked).name == found


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("beta", r"'beta' could be beta-10, beta-1; give more of the name"),
        ("gamma", r"no run 'gamma' under .*; runs there: beta-10, beta-1, alpha"),
        ("", "no run ''"),
        ("a\x1b[2J", r"no run 'a\\x1b\[2J'"),
        ("..", "is not a run folder"),
        ("../x", "is not a run folder"),
    ],
)
def test_a_run_that_is_not_found_is_explained(tmp_path: Path, asked: str, said: str) -> None:
    """The message lists what there is."""
    make_runs(tmp_path, "alpha", "beta-1", "beta-10")
    with pytest.raises(UsageError, match=said):
        find_run(tmp_path, asked)


def test_a_run_is_found_by_its_path_and_has_its_folders_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From wherever one stands, inside it too."""
    make_runs(tmp_path, "alpha")
    monkeypatch.chdir(tmp_path / "alpha" / "logs")
    assert find_run(Path("runs"), str(tmp_path / "alpha")).name == "alpha"
    assert find_run(Path("runs"), "..").name == "alpha"
    assert find_run(Path("runs"), "../").name == "alpha"


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("quickstart", "quickstart-1122-0905"),
        ("my config (1)", "my-config-1-1122-0905"),
        ("../../etc", "etc-1122-0905"),
        ("ä", "run-1122-0905"),
        ("", "run-1122-0905"),
        (".hidden", "hidden-1122-0905"),
        ("x" * 99, "x" * 32 + "-1122-0905"),
    ],
)
def test_a_fresh_name_is_the_stem_and_the_date(tmp_path: Path, stem: str, name: str) -> None:
    """Readable, and always a proper name."""
    folder = fresh_folder(tmp_path / "runs", stem, NOW)
    assert folder.name == name
    assert folder.path.is_dir()


def test_a_fresh_folder_is_nobody_elses(tmp_path: Path) -> None:
    """A number is added until the folder could be made: two runs started in the same minute get one each."""
    names = [fresh_folder(tmp_path, "a", NOW).name for _ in range(3)]
    assert names == ["a-1122-0905", "a-1122-0905-2", "a-1122-0905-3"]


def test_a_fresh_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    """A file where the runs should lie is named, with the setting that changes the place."""
    (tmp_path / "runs").write_text("")
    with pytest.raises(StorageError, match=r"run\.dir"):
        fresh_folder(tmp_path / "runs", "a", NOW)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(stem=st.text())
def test_every_fresh_name_is_a_proper_name(tmp_path: Path, stem: str) -> None:
    """Whatever a config file is called."""
    folder = fresh_folder(tmp_path, stem, NOW)
    folder.path.rmdir()
    assert NAME_PATTERN.fullmatch(folder.name)


def test_this_machine_has_a_name() -> None:
    """It is written into `run.json` and shown to people."""
    assert re.fullmatch(r"\S+", host_name())
