"""A run on another machine: ssh to `plt-tui attach --stdio` there, and what comes back as a `Source`.

ssh decides who may, and asks for what it needs at the terminal, before any view is open. A lost link is not opened again here.
Invariants: what the far side says is shown through the escape filter only; a lost link is never told as the end of a run.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress

from plt_tui import __version__
from plt_tui.config.load import from_toml
from plt_tui.config.schema import RunConfig
from plt_tui.errors import HubUnreachable, PltTuiError, UsageError, by_exit_code
from plt_tui.protocol.commands import Command
from plt_tui.protocol.events import CaughtUp, End, Event, Phase, Run
from plt_tui.protocol.hello import hello
from plt_tui.protocol.remote import CUT, MAX_BYTES, START, Introduction, decode
from plt_tui.protocol.text import safe_line
from plt_tui.views.address import DEFAULT_COMMAND, Address, parse, ssh_words
from plt_tui.views.client import MAX_EVENT_BYTES, HubClient, event_in

MAX_NOISE_BYTES = 64 * 1024
"""Most that the shell there may print before plt-tui comes to speak."""
GOODBYE_S = 2.0
"""How long what was sent may take to arrive when the view is left."""
END_S = 1.0
"""How long ssh may take to end once it has nothing to do, or is told to."""
HOLD_S = 0.3
"""A line of ssh's is told when it goes on for so long after it: its last words are told as the reason of its end, once."""
MAX_WORDS_CHARS = 300
_PLT_TUI = "plt-tui: "
"""How the far plt-tui begins its last word."""

Tell = Callable[[str], None]
"""Takes a line for the person at the terminal, safe to show; from any thread."""


def _nobody(_: str) -> None:
    pass


class _Words:
    """What is said on ssh's stderr: told while there is no run yet, and its newest lines kept."""

    def __init__(self, stream: socket.socket, tell: Tell) -> None:
        self._stream = stream
        self._tell = tell
        self._lock = threading.Lock()
        self._kept: deque[str] = deque(maxlen=20)
        self._untold: deque[str] = deque(maxlen=20)
        self._thread = threading.Thread(target=self._read, name="ssh's words", daemon=True)
        self._thread.start()

    def tell_rest(self, reason: str) -> None:
        """Tell what waits, but for what is in `reason`, which is told anyway."""
        with self._lock:
            self._untold = deque(line for line in self._untold if line.rstrip(".") not in reason)
            self._tell_all()

    def begin_anew(self) -> None:
        """Tell what waits, then nothing any more, and forget it: from now on a view has the terminal."""
        with self._lock:
            self._tell_all()
            self._tell = _nobody
            self._kept.clear()

    def last(self, wait_s: float) -> tuple[str, ...]:
        """The newest lines; at most `wait_s` is waited for the end of them."""
        self._thread.join(wait_s)
        with self._lock:
            return tuple(self._kept)

    def close(self) -> None:
        """Stop listening: a process that ssh has left behind (ControlPersist) may keep the other end open."""
        with suppress(OSError):
            self._stream.shutdown(socket.SHUT_RDWR)
        self._thread.join(END_S)  # it may be telling a terminal that does not read
        self._stream.close()

    def _read(self) -> None:
        rest = b""
        while True:
            self._stream.settimeout(HOLD_S if self._untold else None)
            try:
                data = self._stream.recv(4096)
            except TimeoutError:
                with self._lock:
                    self._tell_all()
                continue
            except OSError:
                break
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            rest = rest[-MAX_WORDS_CHARS:]
            self._take(lines)
        self._take([rest])

    def _take(self, lines: Sequence[bytes]) -> None:
        words = [words for line in lines for words in _words_in(line)]
        with self._lock:
            self._kept.extend(words)
            self._untold.extend(line for line in words if not line.startswith(_PLT_TUI))

    def _tell_all(self) -> None:
        while self._untold:
            self._tell(self._untold.popleft())


class Ssh:
    """ssh with a stream to the far side. Every method blocks, and may be called from any thread."""

    def __init__(self, words: Sequence[str], tell: Tell) -> None:
        """Start it. Raises: UsageError where there is none."""
        self.tell = tell
        self.is_polite = False
        """What was sent matters: the far side is listening."""
        self._stream, theirs = socket.socketpair()
        said, errors = socket.socketpair()
        try:
            self._process = subprocess.Popen(words, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=errors.fileno())
        except OSError as error:
            self._stream.close()
            said.close()
            raise UsageError(f"{words[0]} cannot be started ({error.strerror}); install the client of OpenSSH") from None
        finally:
            theirs.close()
            errors.close()
        self.words = _Words(said, tell)
        self._closing = threading.Lock()
        self._is_closed = False

    def stream(self) -> socket.socket:
        """Another handle on the stream, which the event loop may close; it must not be read here any more."""
        return self._stream.dup()

    def read_line(self) -> bytes:
        """The next line of the far side; without its newline when it ends there, or is longer than an introduction."""
        line = b""
        while not line.endswith(b"\n") and len(line) < MAX_BYTES:
            seen = self._stream.recv(65536, socket.MSG_PEEK)  # what follows the line is not ours
            if not seen:
                break
            line += self._stream.recv(seen.find(b"\n") + 1 or len(seen))
        return line

    def greet(self, message: Mapping[str, object]) -> None:
        """Say the first message of a view. A far side that has gone meanwhile may have said why: that is read all the same."""
        self.is_polite = True
        with suppress(OSError):
            self._stream.sendall(json.dumps(message).encode() + b"\n")

    def outcome(self) -> tuple[int | None, tuple[str, ...]]:
        """The exit code of ssh, which is that of the far side or 255, and its last words; None while it lives on."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        return self._process.returncode, self.words.last(END_S / 2)

    def close(self) -> None:
        """End ssh, once what was sent has arrived if that matters. Harmless when repeated."""
        with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
            if self.is_polite:
                self._drain(time.monotonic() + GOODBYE_S)
            else:
                self._process.terminate()
            self._end_process()
            with suppress(OSError):
                self._stream.shutdown(socket.SHUT_RDWR)  # wakes whoever reads
            self._stream.close()
            self.words.close()

    def _drain(self, give_up_at: float) -> None:
        """Say that nothing more will be sent, and let the far side end at that."""
        with suppress(OSError):
            self._stream.shutdown(socket.SHUT_WR)
            while (left_s := give_up_at - time.monotonic()) > 0:
                self._stream.settimeout(left_s)
                if not self._stream.recv(65536):
                    return
        self._process.terminate()

    def _end_process(self) -> None:
        for end in (self._process.terminate, self._process.kill):
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired:
                end()
            else:
                return
        self._process.wait()


class Link:
    """A run behind ssh: what it has said of itself, and one `Source` of it."""

    def __init__(self, ssh: Ssh, host: str, introduction: Introduction, config: RunConfig, *, readonly: bool) -> None:
        self.host = host
        self.name = safe_line(introduction.name)
        self.config = config
        self.is_live = introduction.live
        """A hub held the run when the link was opened."""
        self.readonly = readonly or not introduction.live
        self.goes_on = False
        """The hub is known to have let go of this view alone."""
        self._ssh = ssh

    async def source(self) -> Remote:
        """The run as its viewer sees it; may be asked for once."""
        reader, writer = await asyncio.open_unix_connection(sock=self._ssh.stream(), limit=MAX_EVENT_BYTES)
        return Remote(self, HubClient(reader, writer, readonly=self.readonly))

    def loss(self) -> HubUnreachable:
        """That the link is lost, and why as far as ssh tells. Blocks for a moment."""
        code, words = self._ssh.outcome()
        why = words[-1].rstrip(".") if words else _ending(code)
        return HubUnreachable(f"the link to {self.host} is lost: {why}")

    def close(self) -> None:
        """End ssh; the run goes on. Blocks. Harmless when repeated."""
        self._ssh.close()


class Remote:
    """One run on another machine, as a `Source`."""

    def __init__(self, link: Link, client: HubClient) -> None:
        self.link = link
        self.readonly = client.readonly
        self.closes_link = False
        """Whether ssh ends with this source."""
        self._client = client

    @property
    def name(self) -> str:
        """The run's name, safe to show."""
        return self.link.name

    @property
    def config(self) -> RunConfig:
        """The run's configuration."""
        return self.link.config

    async def events(self) -> AsyncIterator[Event]:
        """History, CaughtUp, then what is live; of a run whose hub dies what its record says beyond that.

        Raises: HubUnreachable when the link is lost, the hub breaks off, or what comes is not the protocol of this version.
        """
        seq, is_whole, is_again = 0, False, False
        last = End if self.link.is_live else CaughtUp
        while line := await self._client.next_line():
            if line.endswith(CUT):
                continue
            if line.startswith(START):
                is_whole = is_again = True
                self.link.goes_on = _introduction(line, self.link.host).live
                continue
            event = event_in(line)
            if is_again and 0 < event.seq <= seq:
                continue
            seq = max(seq, event.seq)
            is_whole = is_again or isinstance(event, last) or (is_whole and not isinstance(event, Run | Phase))
            yield event
        if not is_whole:
            raise await asyncio.to_thread(self.link.loss)

    async def send(self, command: Command) -> None:
        """Hand `command` to the hub; its fate comes back as CommandStatus events. Raises: UsageError, HubUnreachable."""
        if not self.link.is_live:
            raise UsageError(f"the run on {self.link.host} has ended; {command.name} needs a live one")
        try:
            await self._client.send(command)
        except HubUnreachable:
            raise await asyncio.to_thread(self.link.loss) from None

    async def close(self) -> None:
        """Leave; the run goes on. Harmless when repeated."""
        await self._client.close()
        if self.closes_link:
            await asyncio.to_thread(self.link.close)


def dial(
    address: Address,
    actor: str,
    *,
    command: str = DEFAULT_COMMAND,
    readonly: bool = False,
    directory: str = "",
    tell: Tell = _nobody,
) -> Link:
    """Open the link to a run for `actor`. Blocks for as long as ssh asks for passwords and the like, at the terminal.

    `command` and `directory`: as in `ssh_words`. `tell` gets what ssh and the shell there say meanwhile.
    Raises: UsageError, HubUnreachable, or what the far plt-tui ended with.
    """
    ssh = Ssh(ssh_words(address, command, readonly=readonly, directory=directory), tell)
    try:
        return _introduced(ssh, actor, address.host, command, readonly=readonly)
    except BaseException:
        ssh.close()
        raise


async def open_remote(target: str, actor: str, readonly: bool = False, command: str = DEFAULT_COMMAND) -> Remote:
    """The run at `target`, such as "ssh://gpu1/quickstart"; closing it ends ssh. Raises: as `dial`."""
    address = parse(target)
    ssh = Ssh(ssh_words(address, command, readonly=readonly), _nobody)
    waiting = asyncio.ensure_future(asyncio.to_thread(_introduced, ssh, actor, address.host, command, readonly=readonly))
    try:
        source = await (await asyncio.shield(waiting)).source()
    except BaseException:
        await asyncio.to_thread(ssh.close)
        await asyncio.gather(waiting, return_exceptions=True)
        raise
    source.closes_link = True
    return source


def _introduced(ssh: Ssh, actor: str, host: str, command: str, *, readonly: bool) -> Link:
    """The link, once the far side has said which run it is, and the hub behind it was greeted. Raises: PltTuiError."""
    noise, num_bytes = list[str](), 0
    while START not in (line := ssh.read_line()) and (line.endswith(b"\n") or len(line) >= MAX_BYTES):
        noise += _words_in(line)
        num_bytes += len(line)
        if num_bytes > MAX_NOISE_BYTES:
            what = f"{host} prints on and on, and nothing of plt-tui; {_quoted(noise)}"
            raise HubUnreachable(f"{what}; make the start files of its shell silent")
    before, start, rest = line.partition(START)
    noise += _words_in(before)
    if not (start and rest.endswith(b"\n")):
        code, words = ssh.outcome()
        error = failure(host, command, code, words, noise)
        ssh.words.tell_rest(str(error))
        raise error
    introduction = _introduction(start + rest, host)
    try:
        config = from_toml(introduction.config)
    except UsageError as error:
        versions = f"written by plt-tui {safe_line(introduction.program, 20)}, this is {__version__}"
        what = safe_line(str(error).split("\n")[0], MAX_WORDS_CHARS)
        raise HubUnreachable(f"the configuration of the run on {host} cannot be read here ({versions}): {what}") from None
    if noise:
        ssh.tell(f"skipped what {host} printed before plt-tui began: {_quoted(noise)}")
    ssh.words.begin_anew()
    if introduction.live:
        ssh.greet(hello(actor, readonly=readonly))
    return Link(ssh, host, introduction, config, readonly=readonly)


def _introduction(line: bytes, host: str) -> Introduction:
    try:
        return decode(line)
    except ValueError as error:
        raise HubUnreachable(f"{host} cannot be understood: {safe_line(str(error), MAX_WORDS_CHARS)}") from None


def failure(host: str, command: str, code: int | None, words: Sequence[str], noise: Sequence[str]) -> PltTuiError:
    """Why there is no run, from how ssh ended (`code`), its last words, and what was printed in the place of a run."""
    last = f": {words[-1].rstrip('.')}" if words else f"; it printed {_quoted(noise)}" if noise else ""
    far = next((line.removeprefix(_PLT_TUI) for line in reversed(words) if line.startswith(_PLT_TUI)), None)
    if far is not None and code:
        return by_exit_code(code, f"on {host}: {far}")
    if code in (126, 127):
        hint = "--remote-command '~/venv/bin/plt-tui', or [remote] in settings.toml"
        return UsageError(f"{host} knows no command {safe_line(command)!r}{last}; tell it where plt-tui is: {hint}")
    if code == 255:
        return HubUnreachable(f"{host} cannot be reached{last}")
    if code == 2 and any("No such option" in line for line in words):
        return HubUnreachable(f"the plt-tui on {host} is too old for attach --stdio{last}; install this version there")
    return HubUnreachable(f"{host} told of no run: {_ending(code)}{last}")


def _ending(code: int | None) -> str:
    if code is None:
        return "the far side has closed it"
    return f"ssh was ended by signal {-code}" if code < 0 else f"ssh ended with exit code {code}"


def _words_in(line: bytes) -> list[str]:
    words = safe_line(line.decode(errors="replace").strip(), MAX_WORDS_CHARS)
    return [words] if words else []


def _quoted(lines: Sequence[str]) -> str:
    """The first of some lines, and how many there are."""
    more = f" and {len(lines) - 1} more lines" if len(lines) > 1 else ""
    return f"“{lines[0] if lines else ''}”{more}"
