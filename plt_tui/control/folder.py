"""The run folder: where each file of a run lies, and who holds it.

    runs/<name>/
      run.json  config.toml  webhook  http-token  journal.jsonl  metrics.jsonl  samples.jsonl  lock  .reserve
      logs/hub.log  logs/rank-0.log ...
      checkpoints/step-00000500/{model.safetensors, optimizer.safetensors, state.json, manifest.json}

Does not know what the files say. Invariant: who holds the lock is alive; the kernel frees it however the holder dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import re
import socket
import stat
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from plt_tui.errors import RunInUse, StorageError, UsageError
from plt_tui.protocol.commands import NAME_PATTERN
from plt_tui.protocol.durable import make_folder, replace_file, sync_above

MAX_SOCKET_PATH = 107
"""sun_path of unix(7) holds 108 bytes with the closing zero."""
OWNER_FILE = ".owner"
"""In a folder of checkpoints outside the run folder: names the run that it belongs to, and is its lock."""
RESERVE_BYTES = 64 << 10
"""Room for the end of a run and its last steps, some 300: a disk that is full then must not hide how it ended."""
LOCK_PATIENCE_S = 0.5
"""How long to retry for the lock: `is_live` of another process holds it for a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """Content of `run.json`: who runs it and where to reach them. Written by the hub only."""

    name: str
    host: str
    pid: int
    boot_id: str
    socket: str
    phase: str
    metrics_url: str = ""
    started_at: float = 0.0
    version: str = ""


class RunFolder:
    """Paths of one run's files; creating the object touches nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @property
    def name(self) -> str:
        """The run's name is its folder's name."""
        return self.path.name

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.toml"

    @property
    def webhook(self) -> Path:
        """The address that alerts are posted to; a secret, see `secrets`."""
        return self.path / "webhook"

    @property
    def http_token(self) -> Path:
        """What clients of the HTTP server must know, while a hub serves with one; a secret, see `server.token`."""
        return self.path / "http-token"

    @property
    def journal(self) -> Path:
        """Every event that changes the run."""
        return self.path / "journal.jsonl"

    @property
    def metrics(self) -> Path:
        """Steps and evaluations."""
        return self.path / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        """Texts written by the model."""
        return self.path / "samples.jsonl"

    @property
    def logs(self) -> Path:
        """Folder of the log files."""
        return self.path / "logs"

    @property
    def checkpoints(self) -> Path:
        """Default folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def _lock(self) -> Path:
        """Locked by who holds the run; says who took it."""
        return self.path / "lock"

    @property
    def _info(self) -> Path:
        return self.path / "run.json"

    @property
    def _reserve(self) -> Path:
        return self.path / ".reserve"

    @property
    def configured_at(self) -> float | None:
        """When the configuration was last written, Unix seconds; None where there is none, or none that we may look at."""
        try:
            status = self.config.stat()
        except (OSError, ValueError):  # ValueError: a zero byte in the path
            return None
        return status.st_mtime if stat.S_ISREG(status.st_mode) else None

    @property
    def exists(self) -> bool:
        """True once a run was created here; another user's whose folder is closed to us is none."""
        return self.configured_at is not None

    def rank_log(self, rank: int) -> Path:
        """Everything that one rank printed."""
        return self.logs / f"rank-{rank}.log"

    def create(self, config_toml: str) -> None:
        """Make the folder, write the configuration, forget an earlier hub. The caller holds the lock. Raises: StorageError."""
        try:
            self._forget_hub()
            for folder in (self.logs, self.checkpoints):
                make_folder(folder, 0o700)
            sync_above(self.path, 2)
            replace_file(self.config, config_toml.encode())
        except OSError as error:
            raise not_made(self.path, error) from None

    def keep_reserve(self) -> None:
        """Keep some room on the disk for the end of the record, if there is any. The caller holds the lock."""
        with contextlib.suppress(OSError):
            if not self._reserve.exists():
                replace_file(self._reserve, os.urandom(RESERVE_BYTES))  # which no file system can make smaller

    def free_reserve(self) -> None:
        """Give that room to what is written next."""
        with contextlib.suppress(OSError):
            self._reserve.unlink(missing_ok=True)

    def write_info(self, info: RunInfo) -> None:
        """Replace `run.json`."""
        replace_file(self._info, json.dumps(asdict(info), indent=1).encode())

    def read_info(self) -> RunInfo | None:
        """Content of `run.json`, or None when there is none or it is not readable as one."""
        try:
            value = json.loads(self._info.read_text())
            return RunInfo(**value)
        except (OSError, ValueError, TypeError):
            return None

    def socket_path(self) -> Path:
        """Where the hub listens: the user's runtime folder if there is one, else the run folder; always short enough."""
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        candidates = [Path(runtime) / "plt-tui" / f"{self.name}-{os.getpid()}.sock"] if runtime else []
        candidates.append(self.path / "hub.sock")
        candidates.append(Path(tempfile.gettempdir()) / f"plt-tui-{os.getuid()}" / f"{os.getpid()}.sock")
        for path in candidates:
            if len(os.fsencode(path)) <= MAX_SOCKET_PATH and _private_folder(path.parent):
                return path
        raise StorageError(f"no private folder with a short path for the socket of {self.name}; set XDG_RUNTIME_DIR")

    def lock(self) -> int:
        """Take the run for this process and return the lock's file descriptor; keep it open for as long as the run is held.

        Raises: RunInUse naming the holder; StorageError where no lock can be taken at all.
        """
        try:
            descriptor = _locked(self._lock, time.monotonic() + LOCK_PATIENCE_S)
        except BlockingIOError:
            raise RunInUse(self._in_use()) from None
        except OSError as error:
            raise StorageError(
                f"{self.path}: cannot take the run's lock: {error.strerror}; choose another --set run.dir"
            ) from None
        with contextlib.suppress(OSError):  # a full disk leaves unsaid who holds it
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f" by process {os.getpid()} on {host_name()}".encode(), 0)
        return descriptor

    def claim(self, root: Path) -> int:
        """Take `root`, a folder of checkpoints outside the run folder, for this run; made if need be.

        A run of the same name in another folder of runs would resume from our checkpoints and delete them. Returns the lock's
        file descriptor, as `lock`. Raises: RunInUse when the owner is live; UsageError naming another owner; StorageError.
        """
        path, us = root / OWNER_FILE, str(self.path.resolve())
        try:
            make_folder(root, 0o700)
            sync_above(root, 1)
            descriptor = _locked(path, time.monotonic() + LOCK_PATIENCE_S)
            owner = _owner(path) or us
            os.pwrite(descriptor, os.fsencode(owner), 0)
        except BlockingIOError:
            raise RunInUse(
                f"{root} is in use by the run in {_owner(path)}; choose another --name or --checkpoint-dir"
            ) from None
        except OSError as error:
            raise StorageError(f"{root}: cannot be taken: {error.strerror}; choose another --checkpoint-dir") from None
        if owner != us:
            os.close(descriptor)
            hint = f"choose another --name or --checkpoint-dir; if that run was moved to {us}, delete {path}"
            raise UsageError(f"{root} holds the checkpoints of the run in {owner}; {hint}")
        return descriptor

    def has_past(self, root: Path) -> bool:
        """True when steps were made, or checkpoints saved under `root`: then model and data are no longer free."""
        has_steps = self.metrics.is_file() and self.metrics.stat().st_size > 0
        return has_steps or any(root.glob("step-*/manifest.json"))

    def is_live(self) -> bool:
        """True when some process on this machine holds the run."""
        try:
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _forget_hub(self) -> None:
        """Remove what a killed hub left: views would take its socket for the new hub's."""
        info = self.read_info()
        if info is not None and info.socket:
            _remove_dead_socket(Path(info.socket))
        self._info.unlink(missing_ok=True)

    def _in_use(self) -> str:
        return f"{self.path} is in use{self._by_whom()}; watch it with: plt-tui attach {self.name}"

    def _by_whom(self) -> str:
        """Who holds the run: its hub once that has written `run.json`, before that who took the lock; empty when unknown."""
        info = self.read_info()
        try:
            if info is not None and self._info.stat().st_mtime_ns >= self._lock.stat().st_mtime_ns:
                return f" by process {info.pid} on {info.host}"
            return self._lock.read_text()
        except (OSError, ValueError):
            return ""


def _owner(path: Path) -> str:
    """The run folder that a folder of checkpoints belongs to; empty for none."""
    return os.fsdecode(path.read_bytes())


def _locked(path: Path, give_up_at: float) -> int:
    """A descriptor of `path` that holds its lock. Raises: BlockingIOError when others hold it until `give_up_at`; OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError:
                if time.monotonic() > give_up_at:
                    raise
                time.sleep(0.02)
    except OSError:
        os.close(descriptor)
        raise


def _remove_dead_socket(path: Path) -> None:
    """Remove a socket that nobody listens on. Anything else stays: `run.json` may be a copy of a live run's, or be forged."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except OSError:
            return


def _private_folder(folder: Path) -> bool:
    """True when `folder` is there (made if need be), ours and nobody else's to enter, writable, and no link laid by others."""
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
    try:
        status = folder.lstat()
    except OSError:
        return False
    is_ours = status.st_uid == os.getuid() and not status.st_mode & 0o077
    return stat.S_ISDIR(status.st_mode) and is_ours and os.access(folder, os.W_OK)


def boot_id() -> str:
    """Changes at every boot: a pid of another boot means nothing."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def host_name() -> str:
    """This machine's name."""
    return socket.gethostname()


def find_run(runs_dir: Path, name: str) -> RunFolder:
    """The run called `name`: a path to its folder, or a name (or its unique beginning) under `runs_dir`.

    Raises: UsageError listing what there is.
    """
    if os.sep in name or name in (".", ".."):
        folder = RunFolder(Path(name).resolve())
        if folder.exists:
            return folder
        raise UsageError(f"{name} is not a run folder (it has no config.toml that we may look at)")
    runs = list_runs(runs_dir)
    if NAME_PATTERN.fullmatch(name):
        matches = [run for run in runs if run.name == name] or [run for run in runs if run.name.startswith(name)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise UsageError(f"{name!r} could be {', '.join(run.name for run in matches[:5])}; give more of the name")
    known = ", ".join(run.name for run in runs[:8]) or "none"
    raise UsageError(f"no run {name!r} under {runs_dir}; runs there: {known}")


def list_runs(runs_dir: Path) -> list[RunFolder]:
    """All runs under `runs_dir`, the newest first (by the time its configuration was last written).

    What is closed to us, or has gone since it was listed, hides no other. Raises: StorageError where nothing can be listed.
    """
    try:
        folders = [RunFolder(path) for path in runs_dir.iterdir() if NAME_PATTERN.fullmatch(path.name)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"{runs_dir} cannot be read: {error.strerror}; choose another folder of runs") from None
    found = [(at, folder) for folder in folders if (at := folder.configured_at) is not None]
    return [folder for _, folder in sorted(found, key=lambda pair: pair[0], reverse=True)]


def fresh_folder(runs_dir: Path, stem: str, now: time.struct_time) -> RunFolder:
    """A new folder of our own: named after the stem and the date, with a number if that is taken. Raises: StorageError."""
    base = f"{_named_after(stem)}-{time.strftime('%m%d-%H%M', now)}"
    try:
        make_folder(runs_dir)
    except OSError as error:
        raise not_made(runs_dir / base, error) from None
    for number in itertools.count(1):
        folder = RunFolder(runs_dir / (base if number == 1 else f"{base}-{number}"))
        try:
            folder.path.mkdir(mode=0o700)
        except FileExistsError:
            continue
        except OSError as error:
            raise not_made(folder.path, error) from None
        return folder
    raise AssertionError("count never ends")


def was_made_for(name: str, stem: str) -> bool:
    """True for a name that `fresh_folder` gives a run of this stem."""
    return re.fullmatch(re.escape(_named_after(stem)) + r"-\d{4}-\d{4}(-\d+)?", name) is not None


def _named_after(stem: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.")[:32] or "run"


def not_made(path: Path, error: OSError) -> StorageError:
    """The error of a run folder that cannot be made."""
    return StorageError(f"{path}: cannot create the run folder: {error.strerror}; choose another --set run.dir=...")
