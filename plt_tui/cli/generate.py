"""`plt-tui generate`: text written by a trained model, as it is written.

Works beside a run that goes on: it only reads checkpoints. Invariant: the pieces that are printed, joined, are what the
tokenizer makes of all tokens at once.
"""

from __future__ import annotations

import io
import re
import secrets
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from plt_tui.cli.attach import DEFAULT_DIR, DirOption
from plt_tui.cli.config import named_plugins
from plt_tui.cli.echo import echo, echo_json
from plt_tui.cli.run import PluginsOption
from plt_tui.cli.trained import (
    DeviceOption,
    StepOption,
    TargetArgument,
    open_trained,
    refuse_wrong,
    with_options,
)
from plt_tui.errors import EXIT_SIGINT, DataError, UsageError

if TYPE_CHECKING:
    from plt_tui.cli.trained import Trained
    from plt_tui.config.schema import SampleSection
    from plt_tui.data.tokenizer import Tokenizer
    from plt_tui.training.inference import ReadyModel

SEPARATOR = "---"
"""Line between two texts."""
_HALF_CHARACTER = "\ufffd"
"""What tokenizers decode the first bytes of a character to."""


def generate(
    target: TargetArgument,
    prompt: Annotated[str | None, typer.Option(help="Text to continue; -: all of stdin. Left out: the run's.")] = None,
    tokens: Annotated[int | None, typer.Option(help="Tokens to write at most. Left out: the run's sample.tokens.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0: always the most probable token. Left out: the run's.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw from this many most probable tokens; 0: from all.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw from the fewest tokens that together are so probable.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**53, help="Of the first text. Left out: drawn, and told.")] = None,
    num: Annotated[int, typer.Option(min=1, help="Texts to write, each with the next seed.")] = 1,
    step: StepOption = None,
    device: DeviceOption = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each text.")] = False,
    plugins: PluginsOption = None,
    directory: DirOption = DEFAULT_DIR,
) -> None:
    """Write text with a trained model, also while it trains."""
    wishes = {"tokens": tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p}
    wishes = {f"sample.{key}": value for key, value in wishes.items()}
    first_seed = secrets.randbelow(2**32) if seed is None else seed
    try:
        refuse_wrong(wishes)
        typed = _from_stdin() if prompt == "-" else prompt
        trained = open_trained(target, directory, step=step, device=device, plugins=named_plugins(plugins))
        echo(f"{trained.described}, seed {first_seed}", err=True)
        writer = _writer(trained, typed, wishes)
        for index in range(num):
            if as_json:
                echo_json(_as_json(writer, first_seed + index))
            else:
                _print(writer, first_seed + index, is_first=index == 0)
    except KeyboardInterrupt:
        echo("", err=as_json)  # the prompt of the shell gets a line of its own
        raise typer.Exit(EXIT_SIGINT) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Everything that a text depends on but the seed."""

    ready: ReadyModel
    sample: SampleSection
    prompt_ids: Sequence[int]

    def tokens(self, seed: int) -> Iterable[int]:
        """The ids behind the prompt."""
        from plt_tui.training.inference import write_tokens

        return write_tokens(self.ready, self.prompt_ids, self.sample, seed)

    def text(self, tokens: Iterable[int]) -> Iterator[str]:
        """The pieces of text that `tokens`, written behind the prompt, stand for."""
        return text_pieces(self.ready.tokenizer, self.prompt_ids, tokens)


def text_pieces(tokenizer: Tokenizer, before: Sequence[int], written: Iterable[int]) -> Iterator[str]:
    """What each token of `written` adds to the text of `before`; a part of a character waits for the rest of it.

    Decodes from one piece before the last on: what a token stands for can depend on whether it is the first (some tokenizers
    drop a space there), and decoding everything again for each token would take a long time for a long text.
    """
    ids, start, stop = list(before), 0, len(before)
    for token in written:
        ids.append(token)
        known, text = tokenizer.decode(ids[start:stop]), tokenizer.decode(ids[start:])
        if len(text) > len(known) and not text.endswith(_HALF_CHARACTER):
            yield text[len(known) :]
            start, stop = stop, len(ids)
    rest = tokenizer.decode(ids[start:])[len(tokenizer.decode(ids[start:stop])) :]
    if rest:
        yield rest


def encode_typed(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """The ids of a prompt that somebody typed, at least one. Raises: UsageError for what the vocabulary cannot express."""
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError("--prompt: not valid UTF-8; give it as UTF-8 text") from None
    if tokenizer.kind == "ids":
        for word in re.findall(r"[^\s<>,]+", prompt):
            if not re.fullmatch(r"[0-9]{1,10}", word) or int(word) >= tokenizer.vocab_size:
                raise UsageError(
                    f"--prompt: {word!r} is no id below {tokenizer.vocab_size}; this model knows token ids only, without a "
                    "tokenizer: write numbers, such as 17 4"
                )
    else:
        try:
            tokenizer.encode(prompt)
        except DataError as error:
            raise UsageError(f"--prompt: {str(error).rpartition(';')[0]}; leave it out") from None
    ids: list[int] = tokenizer.encode_prompt(prompt).tolist()
    return ids


def _writer(trained: Trained, typed: str | None, wishes: Mapping[str, object]) -> Writer:
    ready, sample = trained.ready, with_options(trained.config, wishes).sample
    if typed is None:
        ids = ready.tokenizer.encode_prompt(sample.prompt).tolist()  # as the run itself: what it cannot express is left out
    else:
        sample = sample.model_copy(update={"prompt": typed})
        ids = encode_typed(ready.tokenizer, typed)
    if len(ids) > ready.model.context:
        echo(f"the prompt has {len(ids)} tokens; the model sees the last {ready.model.context} of them", err=True)
    return Writer(ready=ready, sample=sample, prompt_ids=ids)


def _print(writer: Writer, seed: int, *, is_first: bool) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the text may hold what this terminal cannot show
    if not is_first:
        echo(SEPARATOR)
    echo(writer.sample.prompt, nl=False)
    for piece in writer.text(writer.tokens(seed)):
        echo(piece, nl=False)
    echo("")


def _as_json(writer: Writer, seed: int) -> dict[str, str | int | float]:
    started = time.monotonic()
    tokens = list(writer.tokens(seed))
    seconds = time.monotonic() - started
    text = "".join(writer.text(tokens))
    return {"prompt": writer.sample.prompt, "text": text, "tokens": len(tokens), "seconds": seconds, "seed": seed}


def _from_stdin() -> str:
    """All of stdin without its last line break, which `echo` adds and nobody means. Raises: UsageError."""
    content = typer.get_binary_stream("stdin").read()
    try:
        return content.decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"--prompt -: stdin is not UTF-8 text (byte {error.start})") from None
