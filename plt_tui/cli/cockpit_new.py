"""What the form for a new run asks of this machine: is the draft all right, write it as a file, start it.

Blocks while it reads files; draws and prints nothing. Invariant: every text that it returns has passed the escape filter, and
what it calls good `plt-tui run` accepts on this machine as it is now.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from plt_tui.errors import PltTuiError, StorageError, UsageError

if TYPE_CHECKING:
    from plt_tui.config.load import LoadedConfig
    from plt_tui.config.partial import Texts
    from plt_tui.config.schema import DataSection, RunConfig
    from plt_tui.config.sources import Problem
    from plt_tui.data.sources import Corpora
    from plt_tui.views.draft import Checked, Mistake

_T = TypeVar("_T")
_KEY = re.compile(r"[a-z]+\.[a-z_0-9]+")
_DOTENV = Path(".env")


class NewRuns:
    """The port of the form, a `views.draft.NewRunPort`. `directory`: the folder of runs that the views look at."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._good: tuple[DataSection, Corpora, int | None] | None = None
        """The data that was last found usable: it need not be read again after every key."""

    @property
    def first_values(self) -> dict[str, str]:
        """What a draft begins with: the folder, where it is not the default one."""
        from plt_tui.config.fields import describe

        directory = str(self._directory)
        return {} if directory == describe()["run.dir"].default else {"run.dir": directory}

    def check(self, values: Texts) -> Checked:
        """All that is wrong with a draft, or what it would train."""
        from plt_tui.protocol.text import safe_line
        from plt_tui.views.draft import SECRETS, Checked, value_text

        loaded, mistakes = _loaded(values)
        if loaded is None:
            return Checked(mistakes=tuple(mistakes))
        summary = self._looked_over(loaded.config, mistakes)
        tree = loaded.config.model_dump(mode="json")
        texts = {key: value_text(tree[section][name]) for key in loaded.origins for section, _, name in [key.partition(".")]}
        return Checked(
            values={key: "given, not shown" if text and key in SECRETS else safe_line(text) for key, text in texts.items()},
            origins={key: safe_line(origin) for key, origin in loaded.origins.items()},
            mistakes=tuple(mistakes),
            summary={} if mistakes else {topic: safe_line(text) for topic, text in summary.items()},
        )

    def launch(self, values: Texts) -> str:
        """Start a run in the background; its name, or its folder where that lies elsewhere. Raises: PltTuiError."""
        from plt_tui.cli.launch import start_detached
        from plt_tui.cli.run import prepare_new
        from plt_tui.config.partial import set_texts

        prepared = prepare_new(set_texts(values))
        start_detached(prepared)
        folder = prepared.folder
        return folder.name if folder.path.parent == self._directory.absolute() else str(folder.path)

    def save(self, values: Texts, path: str, *, replace: bool) -> str:
        """Write a draft to a TOML file. Raises: FileExistsError when there is one and not `replace`; PltTuiError."""
        from plt_tui.config.partial import toml_file
        from plt_tui.protocol.text import safe_line
        from plt_tui.views.draft import without_secrets

        file = Path(os.path.expanduser(path))  # noqa: PTH111  (Path.expanduser raises where there is no home)
        if file.is_dir():
            raise UsageError(f"{file} is a folder; give the path of a file in it, such as {file / 'config.toml'}")
        how = safe_line(f"plt-tui run {shlex.quote(str(file))}")
        try:
            _write(file, f"# Train: {how}\n\n{toml_file(without_secrets(values))}", replace=replace)
        except FileExistsError:
            raise
        except OSError as error:
            raise StorageError(f"{file}: cannot be written: {error.strerror}; give another place") from None
        return f"{safe_line(f'saved {file}')}: {how}{_notes(values)}"

    def _looked_over(self, config: RunConfig, mistakes: list[Mistake]) -> dict[str, str]:
        """The summary of a valid configuration; what files and devices say against it is added to `mistakes`."""
        from plt_tui.cli import config as checks
        from plt_tui.config.pretrained import refuse_unfit

        _attempted(lambda: refuse_unfit(config), mistakes)
        _attempted(lambda: checks.find_plugins(config, checks.named_plugins(None)), mistakes)
        _attempted(lambda: _refuse_taken(config), mistakes)
        _attempted(lambda: checks.refuse_unusable_run_dir(config), mistakes)
        _attempted(lambda: checks.refuse_unusable_checkpoint_dir(config), mistakes)
        _attempted(lambda: _refuse_address(config), mistakes)
        placement = _attempted(lambda: checks.placement_here(config), mistakes)
        found = _attempted(lambda: self._usable(config.data), mistakes)
        if placement is None or found is None:
            return {}
        return dict(checks.summary(config, placement, *found))

    def _usable(self, data: DataSection) -> tuple[Corpora, int | None]:
        """The corpora and the size of the vocabulary. Raises: DataError."""
        from plt_tui.data.check import check_corpus
        from plt_tui.data.sources import resolve
        from plt_tui.data.vocabulary import vocab_size_ahead

        if self._good is None or self._good[0] != data:
            check_corpus(data)
            corpora = resolve(data)
            self._good = (data, corpora, vocab_size_ahead(data, corpora))
        return self._good[1:]


def _loaded(values: Texts) -> tuple[LoadedConfig | None, list[Mistake]]:
    """The configuration of a draft without those of its values that are wrong, None where that is none either."""
    from plt_tui.config.load import keepable, load
    from plt_tui.config.partial import set_texts
    from plt_tui.config.sources import InvalidConfig

    try:
        return keepable(load(None, sets=set_texts(values), environ=os.environ, dotenv=_DOTENV)), []
    except InvalidConfig as error:
        mistakes = [_mistake_of(problem) for problem in error.problems]
        rest = _without(values, {mistake.key for mistake in mistakes})
        return (_loaded(rest)[0] if len(rest) < len(values) else None), mistakes
    except (PltTuiError, OSError, ValueError) as error:  # a path of the draft can be anything
        return None, [_mistake(str(error))]


def _without(values: Texts, wrong: Collection[str]) -> dict[str, str]:
    """The values that are not wrong; without those of the same sections too, when it is defaults that clash with them."""
    rest = {key: text for key, text in values.items() if key not in wrong}
    sections = {key.partition(".")[0] for key in wrong}
    return (
        rest if len(rest) < len(values) else {key: text for key, text in rest.items() if key.partition(".")[0] not in sections}
    )


def _attempted(look: Callable[[], _T], mistakes: list[Mistake]) -> _T | None:
    """What `look` returns; None when it finds a mistake, which is added to `mistakes`."""
    try:
        return look()
    except (PltTuiError, OSError, ValueError) as error:
        mistakes.append(_mistake(str(error)))
        return None


def _mistake_of(problem: Problem) -> Mistake:
    from plt_tui.protocol.text import safe_line
    from plt_tui.views.draft import Mistake

    where = "" if problem.origin == "--set" else f"{problem.origin}: "
    return Mistake(problem.key, safe_line(where + problem.text))


def _mistake(message: str) -> Mistake:
    """An error's message, with the field that it begins with, if any: "data.train (a.txt): no such file"."""
    from plt_tui.config.fields import describe
    from plt_tui.protocol.text import safe_line
    from plt_tui.views.draft import Mistake

    found = _KEY.match(message)
    key = found[0] if found is not None and found[0] in describe() else ""
    return Mistake(key, safe_line(message.removeprefix(key).removeprefix(": ").lstrip()))


def _refuse_taken(config: RunConfig) -> None:
    """Raises: UsageError when there is a run of the name that `config` gives."""
    from plt_tui.control.folder import RunFolder

    folder = RunFolder(Path(config.run.dir) / config.run.name)
    if config.run.name and folder.exists:
        raise UsageError(f"run.name: {folder.path} already holds a run; choose another name")


def _refuse_address(config: RunConfig) -> None:
    """Raises: UsageError when metrics would be served where others can reach them."""
    from plt_tui.server.guard import parse_address

    if config.metrics.serve:
        parse_address(config.metrics.address, has_token=config.metrics.needs_token)


def _write(file: Path, text: str, *, replace: bool) -> None:
    """The whole file or none. Raises: FileExistsError when there is one and not `replace`; OSError."""
    from plt_tui.protocol.durable import replace_file

    if not replace:
        file.open("x").close()  # the name is ours from here on
    try:
        replace_file(file, text.encode())
    except OSError:
        if not replace:
            with contextlib.suppress(OSError):
                file.unlink()
        raise


def _notes(values: Texts) -> str:
    """What a file of a draft does not say: its secrets, and that the environment is asked before it."""
    from plt_tui.config.fields import listed
    from plt_tui.config.sources import ENVIRONMENT, parse_dotenv, read_text
    from plt_tui.views.draft import SECRETS, without_secrets

    variables = {**(parse_dotenv(read_text(_DOTENV)) if _DOTENV.is_file() else {}), **os.environ}
    written = without_secrets(values)
    stronger = [name for name, key in ENVIRONMENT.items() if key in written and variables.get(name)]
    notes = [f"{key} is not in it, {variable} of the environment sets it" for key, variable in SECRETS.items() if key in values]
    if stronger:
        notes.append(f"{listed(stronger, 'and')} of the environment still come before it")
    return "".join(f"; {note}" for note in notes)
