"""Promises of `config.load` about wrong input: one line per problem, with its place, in words for people."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.config.load import Assignment, load, resolve
from plt_tui.config.presets import PRESETS
from plt_tui.config.schema import RunConfig
from plt_tui.config.sources import environment_layer, options_layer, toml_layer
from plt_tui.errors import UsageError

_SECTIONS = "run, data, model, train, optim, parallel, eval, sample, checkpoint, guard, control, alerts, metrics, export, ui"

# TOML text -> the whole message, without "config.toml:" at the head of each line.
BROKEN: dict[str, tuple[str, list[str]]] = {
    "misspelt key": ("[train]\nbatchsize = 3", ['2: train.batchsize: unknown key; did you mean "batch_size"?']),
    "misspelt section": ("[trian]\nsteps = 3", ["1: trian: unknown section; did you mean [train]?"]),
    "long section name": ("[optimizer]\nlr = 3", ["1: optimizer: unknown section; did you mean [optim]?"]),
    "strange section": ("[wandb]\nx = 3", [f"1: wandb: unknown section; known: {_SECTIONS}"]),
    "key without section": ("lr = 3", ["1: lr: unknown key; did you mean [optim] lr?"]),
    "strange key without section": ("zzz = 3", [f"1: zzz: unknown key; give it in a section: {_SECTIONS}"]),
    "key of another section": ("[train]\nlr = 1", ["2: train.lr: unknown key; did you mean [optim] lr?"]),
    "key of several other sections": (
        "[optim]\nevery = 1",
        ["2: optim.every: unknown key; did you mean [eval] every, [sample] every or [checkpoint] every?"],
    ),
    "key of other sections, although one of ours is near": (
        "[data]\ntokens = 5",
        ["2: data.tokens: unknown key; did you mean [train] tokens or [sample] tokens?"],
    ),
    "nanoGPT's name": ("[data]\nblock_size = 1", ['2: data.block_size: unknown key; did you mean "context"?']),
    "Hugging Face's name": (
        "[train]\nlearning_rate = 1",
        ["2: train.learning_rate: unknown key; did you mean [optim] lr?"],
    ),
    "capital letters": ("[model]\nLayers = 1", ['2: model.Layers: unknown key; did you mean "layers"?']),
    "hyphen": ("[train]\nbatch-size = 1", ['2: train.batch-size: unknown key; did you mean "batch_size"?']),
    "misspelt key of another section": (
        "[run]\ntemprature = 1",
        ["2: run.temprature: unknown key; did you mean [sample] temperature?"],
    ),
    "strange key": ("[ui]\nzzz = 1", ["2: ui.zzz: unknown key; known here: chart, theme, palette, low_bandwidth"]),
    "unknown subtable": ("[ui.zzz]\na = 1", ["1: ui.zzz: unknown key; known here: chart, theme, palette, low_bandwidth"]),
    "key with escapes": (
        '[ui]\n"a\\u001b[2Jb" = 1',
        ["2: ui.a\\x1b[2Jb: unknown key; known here: chart, theme, palette, low_bandwidth"],
    ),
    "empty key": ('[ui]\n"" = 1', ['2: ui."": unknown key; known here: chart, theme, palette, low_bandwidth']),
    "scalar as section": ("train = 5", ["1: train: expected the section [train], found 5"]),
    "array of tables": ("[[train]]\nsteps = 5", ["1: train: expected the section [train], found [a table]"]),
    "text for a whole number": ('[train]\nsteps = "abc"', ['2: train.steps: expected a whole number >= 0, found text "abc"']),
    "quoted number": ('[train]\nsteps = "100"', ['2: train.steps: expected a whole number >= 0, found text "100"']),
    "fraction for a whole number": (
        "[train]\naccumulate = 1.5",
        ["2: train.accumulate: expected a whole number >= 1, found 1.5"],
    ),
    "true for a number": ("[train]\ngrad_clip = true", ["2: train.grad_clip: expected a number >= 0, found true"]),
    "one for true": ("[train]\ncompile = 1", ["2: train.compile: expected true or false, found 1"]),
    "number for text": ("[run]\ndir = 5", ["2: run.dir: expected text, found 5"]),
    "date for text": ("[ui]\ntheme = 1979-05-27", ["2: ui.theme: expected text, found the date or time 1979-05-27"]),
    "table for a number": ("[control]\ngrace_s = {a = 1}", ["2: control.grace_s: expected a number > 0, found a table"]),
    "below the range": ("[train]\nbatch_size = 0", ["2: train.batch_size: expected a whole number >= 1, found 0"]),
    "above the range": ("[optim]\nlr = 11", ["2: optim.lr: expected a number > 0 and <= 10, found 11"]),
    "edge of an open range": ("[model]\ndropout = 1.0", ["2: model.dropout: expected a number >= 0 and < 1, found 1.0"]),
    "not a number": ("[optim]\neps = nan", ["2: optim.eps: expected a number > 0, found nan"]),
    "infinite": ("[optim]\nlr = inf", ["2: optim.lr: expected a number > 0 and <= 10, found inf"]),
    "seed too large": (
        "[run]\nseed = 9223372036854775808",
        ["2: run.seed: expected a whole number >= 0 and < 9223372036854775808, found 9223372036854775808"],
    ),
    "near a choice": (
        '[optim]\nschedule = "Cosin"',
        ['2: optim.schedule: expected "cosine", "linear", "constant" or "wsd", found text "Cosin"; did you mean "cosine"?'],
    ),
    "no choice": ('[train]\nprecision = "fp8"', ['2: train.precision: expected "fp32", "bf16" or "fp16", found text "fp8"']),
    "number for a choice": ("[data]\ntoken_dtype = 16", ['2: data.token_dtype: expected "uint16" or "uint32", found 16']),
    "number or word": (
        '[parallel]\nranks = "four"',
        ['2: parallel.ranks: expected "auto" or a whole number >= 1, found text "four"'],
    ),
    "no rank": ("[parallel]\nthreads = 0", ['2: parallel.threads: expected "auto" or a whole number >= 1, found 0']),
    "device": (
        '[parallel]\ndevice = "gpu"',
        ['2: parallel.device: expected "auto", "cpu", "cuda" or "cuda:N", found text "gpu"'],
    ),
    "address": (
        '[metrics]\naddress = "localhost"',
        ['2: metrics.address: expected host:port such as "127.0.0.1:8081", found text "localhost"'],
    ),
    "name that leaves its folder": (
        '[run]\nname = "../x"',
        ['2: run.name: expected up to 64 letters, digits, ".", "_" or "-", the first no dot, found text "../x"'],
    ),
    "empty text": (
        '[data]\ntrain = ""',
        ['2: data.train: expected text that is not empty or a list, each text that is not empty, found text ""'],
    ),
    "long text": (
        f'[data]\nformat = "{"x" * 100}"',
        [f'2: data.format: expected "auto", "text", "jsonl", "parquet" or "tokens", found text "{"x" * 80}..."'],
    ),
    "too few in a list": (
        "[optim]\nbetas = [0.9]",
        ["2: optim.betas: expected [a number >= 0 and < 1, a number >= 0 and < 1], found [0.9]"],
    ),
    "too many in a list": (
        "[optim]\nbetas = [0.9, 0.9, 0.9]",
        ["2: optim.betas: expected [a number >= 0 and < 1, a number >= 0 and < 1], found [0.9, 0.9, 0.9]"],
    ),
    "wrong values in a list, told once": (
        '[optim]\nbetas = [1.0, "x"]',
        ['2: optim.betas: expected [a number >= 0 and < 1, a number >= 0 and < 1], found [1.0, text "x"]'],
    ),
    "text for a list": (
        '[optim]\nbetas = "x"',
        ['2: optim.betas: expected [a number >= 0 and < 1, a number >= 0 and < 1], found text "x"'],
    ),
    "unknown preset": (
        '[model]\npreset = "gpt3"',
        [f"2: model.preset: unknown preset 'gpt3'; known: {', '.join(PRESETS)}, with N from 1 to 99"],
    ),
    "list for a preset": ("[model]\npreset = []", ["2: model.preset: expected text, found []"]),
    "heads": (
        "[model]\nwidth = 128\nheads = 3",
        ["3: model.heads: 3 heads do not divide width 128; take a divisor of 128"],
    ),
    "width against default heads": (
        "[model]\nlayers = 2\nwidth = 130",
        ["3: model.heads: 4 heads do not divide width 130; take a divisor of 130"],
    ),
    "width against the preset's heads": (
        '[model]\npreset = "gpt2"\nwidth = 700',
        ["3: model.heads: 12 heads do not divide width 700; take a divisor of 700"],
    ),
    "key-value heads": (
        "[model]\nkv_heads = 3",
        ["2: model.kv_heads: 3 key-value heads do not divide 4 heads; take a divisor of 4"],
    ),
    "odd head size": (
        "[model]\nheads = 128",
        ["2: model.position: rope needs an even head size, but width 128 / heads 128 is 1"],
    ),
    "two targets": (
        "[train]\nsteps = 5\nepochs = 2",
        ["3: train.epochs: steps and epochs are both given; keep one"],
    ),
    "three targets": (
        "[train]\ntokens = 9\nepochs = 2\nsteps = 5",
        ["2: train.tokens: steps, epochs and tokens are all given; keep one"],
    ),
    "dotted keys and inline tables": (
        "train.steps = -1\noptim = { lr = 11, beta = 3 }",
        [
            "1: train.steps: expected a whole number >= 0, found -1",
            '2: optim.beta: unknown key; did you mean "betas"?',
            "2: optim.lr: expected a number > 0 and <= 10, found 11",
        ],
    ),
    "everything at once, in the order of the file": (
        "[optim]\nlr = 0\nwarmpu = 1\n[trian]\n[model]\nheads = 3\n[ui]\ntheme = 1\n",
        [
            "2: optim.lr: expected a number > 0 and <= 10, found 0",
            '3: optim.warmpu: unknown key; did you mean "warmup"?',
            "4: trian: unknown section; did you mean [train]?",
            "6: model.heads: 3 heads do not divide width 128; take a divisor of 128",
            "8: ui.theme: expected text, found 1",
        ],
    ),
    "unclosed bracket": ("x = [", ["1:6: not valid TOML: Invalid value"]),
    "no value": ("[train]\nsteps =", ["2:8: not valid TOML: Invalid value"]),
    "unquoted text": ("[data]\ntrain = corpus.txt", ["2:9: not valid TOML: Invalid value"]),
    "unclosed string": ('[data]\ntrain = "x\n', ["2:11: not valid TOML: Illegal character '\\n'"]),
    "section twice": ("[train]\n[train]", ["2:7: not valid TOML: Cannot declare ('train',) twice"]),
}


def _message(*layers):
    with pytest.raises(UsageError) as caught:
        resolve(layers)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(("text", "lines"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_explained_line_by_line(text, lines):
    """Every problem of the file is told at once, each at its line, in the order of the file."""
    with pytest.raises(UsageError) as caught:
        resolve([toml_layer(text, "config.toml")])
    assert str(caught.value).splitlines() == [f"config.toml:{line}" for line in lines]


def test_a_final_rate_above_the_peak_is_refused():
    """`min_lr` above `lr` names both values."""
    layer = toml_layer("[optim]\nlr = 1e-3\nmin_lr = 2e-3", "config.toml")
    assert _message(layer) == "config.toml:3: optim.min_lr: 0.002 is above the peak learning rate 0.001"


# --set texts -> the whole message.
BROKEN_SETS = {
    "optim.lr=fast": '--set optim.lr: expected a number > 0 and <= 10, found text "fast"',
    "optim.lr=": '--set optim.lr: expected a number > 0 and <= 10, found text ""',
    "optim.lr": "--set optim.lr: expected section.key=value, such as optim.lr=0.001",
    "=5": "--set : expected section.key=value, such as optim.lr=0.001",
    "lr=5": "--set lr: unknown key; did you mean optim.lr?",
    "optim.learning_rate=5": "--set optim.learning_rate: unknown key; did you mean optim.lr?",
    "opt.lr=5": "--set opt.lr: unknown section; did you mean [optim]?",
    "train.steps=1.5": "--set train.steps: expected a whole number >= 0, found 1.5",
    "train.steps=inf": "--set train.steps: expected a whole number >= 0, found inf",
    "model.heads=3": "--set model.heads: 3 heads do not divide width 128; take a divisor of 128",
    "optim.betas=0.9,0.95": (
        '--set optim.betas: expected [a number >= 0 and < 1, a number >= 0 and < 1], found text "0.9,0.95"'
    ),
}


@pytest.mark.parametrize(("text", "message"), BROKEN_SETS.items())
def test_a_broken_set_is_explained(text, message):
    """`--set` problems name the option and the key."""
    assert _message(options_layer([], [text])) == message


def test_variables_and_options_are_named_with_their_field():
    """A value from the environment, `.env` or a named option is told with where it came from and what it sets."""
    message = _message(
        toml_layer("[train]\nbatch_size = 0\n[ui]\nx = 1", "config.toml"),
        environment_layer({"EPOCHS": "many"}, ".env"),
        environment_layer({"BATCH_SIZE": "0", "EPOCHS": ""}, "environment"),
        options_layer([Assignment(key="optim.lr", value=-1.0, origin="--learning-rate")], ["data.x=1"]),
    )
    assert message.splitlines() == [
        "config.toml:4: ui.x: unknown key; known here: chart, theme, palette, low_bandwidth",
        "--set data.x: unknown key; known here: train, weights, eval, eval_fraction, format, text_field, token_dtype, "
        "tokenizer, vocab_size, context, packing",
        '.env EPOCHS: train.epochs: expected a number >= 0, found text "many"',
        "environment BATCH_SIZE: train.batch_size: expected a whole number >= 1, found 0",
        "--learning-rate: optim.lr: expected a number > 0 and <= 10, found -1.0",
    ]


def test_two_targets_on_the_command_line_are_one_too_many():
    """Named options and `--set` are one layer: neither silently beats the other's target."""
    epochs = Assignment(key="train.epochs", value=3.0, origin="--epochs")
    assert _message(options_layer([epochs], ["train.steps=5"])) == (
        "--epochs: train.epochs: steps and epochs are both given; keep one"
    )


def test_the_file_itself_can_be_the_problem(tmp_path, monkeypatch):
    """Missing, a folder, not UTF-8: the message names the path as it was given and what to do."""
    monkeypatch.chdir(tmp_path)
    Path("latin.toml").write_bytes(b'[run]\nname = "caf\xe9"\n')
    Path("folder.toml").mkdir()
    for name, message in {
        "none.toml": "none.toml: no such file; give the path of a TOML file, or none for the quick start",
        "folder.toml": "folder.toml: is a folder; give the path of a TOML file",
        "latin.toml": "latin.toml: not UTF-8 text (byte 0xe9 at offset 17); save it as UTF-8",
        "latin.toml/x": "latin.toml/x: cannot be read (Not a directory); check its permissions",
    }.items():
        with pytest.raises(UsageError) as caught:
            load(Path(name))
        assert str(caught.value) == message


@pytest.mark.parametrize("text", ["x = " + "[" * 3000, "x = " + "9" * 9000], ids=["nesting", "digits"])
def test_absurd_toml_is_refused_without_a_traceback(text):
    """Nesting and numbers beyond the parser's limits are usage errors too."""
    with pytest.raises(UsageError, match=r"^config\.toml: not valid TOML: "):
        toml_layer(text, "config.toml")


_JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
_KEYS = [f"{section}.{key}" for section, keys in RunConfig().model_dump().items() for key in keys]


@given(st.dictionaries(st.sampled_from(_KEYS), _JUNK, max_size=5))
def test_any_value_for_any_key_is_taken_or_explained(values):
    """No value crashes the loader; each refused one is told once, on one printable line with its key."""
    options = [Assignment(key=key, value=value, origin="--option") for key, value in values.items()]
    lines: list[str] = []
    try:
        resolve([options_layer(options)])
    except UsageError as error:
        lines = str(error).split("\n")
    assert all(line.startswith("--option: ") and line.isprintable() for line in lines)
    assert len({line.split(": ")[1] for line in lines}) == len(lines)


@given(st.text())
def test_any_text_is_read_or_refused(text):
    """No file content gives anything but a configuration or a UsageError that begins with its place."""
    outcome = "config.toml: loaded"
    try:
        resolve([toml_layer(text, "config.toml")])
    except UsageError as error:
        outcome = str(error)
    assert outcome.startswith("config.toml:")
