"""Promises of `config.load`: who wins, where each value came from, and a resolved config that reads back exactly."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plt_tui.config.blueprint import Blueprint, header
from plt_tui.config.load import ENVIRONMENT, OPTIONS, Assignment, describe, from_toml, load, to_toml
from plt_tui.config.presets import PRESETS, preset
from plt_tui.config.schema import LARGEST, ModelSection, RunConfig
from plt_tui.errors import UsageError

# Weakest first: what gives train.epochs, and the origin that it shows.
EPOCHS_SOURCES = {
    "toml": (1.0, "config.toml:2"),
    "dotenv": (2.0, ".env EPOCHS"),
    "environ": (3.0, "environment EPOCHS"),
    "option": (4.0, "--epochs"),
    "set": (5.0, "--set"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _load_file(text, **kwargs):
    Path("config.toml").write_text(text)
    return load(Path("config.toml"), **kwargs)


def _load_epochs(sources):
    """The configuration when each of `sources` gives the number of epochs that EPOCHS_SOURCES has for it."""
    values = {name: EPOCHS_SOURCES[name][0] for name in sources}
    text = "# nothing else\n" + (f"train.epochs = {values['toml']}\n" if "toml" in values else "")
    Path(".env").write_text(f"EPOCHS={values['dotenv']}\n" if "dotenv" in values else "")
    option = Assignment(key="train.epochs", value=values.get("option"), origin="--epochs")
    return _load_file(
        text,
        options=[option] if "option" in values else [],
        sets=[f"train.epochs={values['set']}"] if "set" in values else [],
        environ={"EPOCHS": str(values["environ"])} if "environ" in values else {},
        dotenv=Path(".env"),
    )


def test_nothing_given_is_the_quick_start():
    """Without file, environment and options every value is the default, and says so."""
    loaded = load(None)
    assert loaded.config == RunConfig()
    assert set(loaded.origins.values()) == {"default"}


def test_every_field_has_an_origin(folder):
    """`origins` covers exactly the fields of the schema."""
    fields = {f"{section}.{key}" for section, keys in RunConfig().model_dump().items() for key in keys}
    assert set(_load_file("[train]\nsteps = 5\n").origins) == fields


@pytest.mark.parametrize(
    "sources",
    [names for size in range(1, 6) for names in itertools.combinations(EPOCHS_SOURCES, size)],
    ids="+".join,
)
def test_the_stronger_source_wins(folder, sources):
    """Option > environment > .env > TOML, for every combination of sources; the origin names the winner."""
    loaded = _load_epochs(sources)
    assert (loaded.config.train.epochs, loaded.origins["train.epochs"]) == EPOCHS_SOURCES[sources[-1]]


def test_the_later_set_wins():
    """Of two `--set` for one key the later one counts."""
    assert load(None, sets=["train.steps=1", "train.steps=2"]).config.train.steps == 2


def test_a_missing_dotenv_is_no_error(folder):
    """`.env` is optional, and a folder of that name (a virtual environment) is not read."""
    assert load(None, dotenv=Path(".env")).config == RunConfig()
    Path(".env").mkdir()
    assert load(None, dotenv=Path(".env")).config == RunConfig()


def test_every_variable_and_option_sets_its_field():
    """The tables of variables and options name existing fields, and each value arrives as the field's type."""
    texts = {"EPOCHS": "2", "BATCH_SIZE": "32", "LEARNING_RATE": ".01", "METRICS_SERVER_ADDR": "0.0.0.0:9"}
    texts["PLT_WEBHOOK"] = "https://box.example/secret"
    given = {variable: texts.get(variable, "some/path.txt") for variable in ENVIRONMENT}
    config = load(None, environ=given).config
    assert (config.data.train, config.data.eval, config.checkpoint.dir) == ("some/path.txt",) * 3
    assert (config.train.epochs, config.train.batch_size, config.optim.lr) == (2.0, 32, 0.01)
    assert config.metrics.address == "0.0.0.0:9"
    assert config.alerts.webhook == "https://box.example/secret"
    assert set(OPTIONS.values()) <= set(describe())


@pytest.mark.parametrize("weak", ["steps = 100", "tokens = 100"])
def test_a_stronger_target_sets_the_weaker_one_aside(folder, weak):
    """`--epochs 3` over a file that counts steps or tokens trains 3 epochs, and `steps` says why it is 0."""
    epochs = Assignment(key="train.epochs", value=3.0, origin="--epochs")
    loaded = _load_file(f"[train]\n{weak}\n", options=[epochs])
    assert (loaded.config.train.steps, loaded.config.train.tokens, loaded.config.train.epochs) == (0, 0, 3.0)
    assert loaded.origins[f"train.{weak.partition(' ')[0]}"] == "set aside by --epochs"


def test_targets_fall_through_all_layers(folder):
    """A target of the environment beats the file's and loses to an option's."""
    option = Assignment(key="train.tokens", value=7, origin="--set")
    train = _load_file("train.steps = 5", environ={"EPOCHS": "2"}, options=[option]).config.train
    assert (train.steps, train.epochs, train.tokens) == (0, 0.0, 7)


def test_a_zero_is_no_target(folder):
    """Clearing one target leaves the others as they are."""
    assert _load_file("[train]\nsteps = 5\nepochs = 0.0", environ={"EPOCHS": "0"}).config.train.steps == 5


@pytest.mark.parametrize("name", [*PRESETS[:-1], "depth:4"])
def test_a_preset_fills_its_keys(name):
    """Every preset is valid, gives its values, and is their origin."""
    loaded = load(None, sets=[f"model.preset={name}"])
    for key, value in preset(name).items():
        section, _, field = key.partition(".")
        assert getattr(getattr(loaded.config, section), field) == value
        assert loaded.origins[key] == f"preset {name}"


def test_a_preset_loses_to_what_is_given(folder):
    """The preset of the winning source applies, below every value that the user gave."""
    text = '[model]\npreset = "gpt2-xl"\nlayers = 2\n'
    loaded = _load_file(text, sets=["model.preset=gpt2"])
    assert (loaded.config.model.layers, loaded.config.model.width) == (2, 768)
    assert loaded.origins["model.layers"] == "config.toml:3"


def _weights(folder, **shape):
    """A folder that says the shape of weights, which it does not hold."""
    of = Blueprint(shape=ModelSection(**shape), context=32, vocab_size=257)
    (folder / "weights").mkdir()
    (folder / "weights" / "model.json").write_text(json.dumps(header(of, "byte")))


def test_weights_give_the_shape_above_a_preset_and_below_what_is_given(folder):
    """Given > weights > preset > default; what weights say nothing about comes from the preset."""
    _weights(folder, layers=3, width=64, softcap=0.0)
    loaded = _load_file('[train]\ninit_from = "weights"\n[model]\npreset = "depth:6"\nsoftcap = 5.0\n')
    model = loaded.config.model
    assert (model.layers, model.width, model.softcap) == (3, 64, 5.0)
    assert (loaded.config.data.context, loaded.config.optim.name) == (32, "muon")
    assert loaded.origins["model.layers"] == "weights weights"
    assert loaded.origins["optim.name"] == "preset depth:6"
    assert loaded.origins["model.softcap"] == "config.toml:5"
    assert loaded.origins["model.dropout"] == "default"


def test_weights_that_have_gone_are_not_missed_where_they_fix_nothing(folder):
    """The configuration that a run has kept still loads; a new one says that they are not there."""
    _weights(folder, layers=3, width=64)
    kept = load(None, sets=["train.init_from=weights", "run.name=a"]).config
    Path("kept.toml").write_text(to_toml(kept))
    (folder / "weights" / "model.json").unlink()
    assert load(Path("kept.toml"), sets=["train.steps=9"]).config.model == kept.model
    with pytest.raises(UsageError, match="weights: no weights"):
        load(None, sets=["train.init_from=weights"])


def test_the_final_rate_follows_the_peak():
    """Where only `lr` is given, `min_lr` is a tenth of it, so that a lower peak is never refused."""
    loaded = load(None, environ={"LEARNING_RATE": "1e-4"})
    assert (loaded.config.optim.lr, loaded.config.optim.min_lr) == (1e-4, 1e-4 / 10)
    assert loaded.origins["optim.min_lr"] == "default (lr / 10)"


def test_a_given_final_rate_stays():
    """`min_lr` of the user is taken as it is, and without `lr` the default peak stays."""
    assert load(None, sets=["optim.lr=1e-4", "optim.min_lr=0"]).config.optim.min_lr == 0.0
    assert load(None, sets=["optim.min_lr=1e-5"]).config.optim.lr == RunConfig().optim.lr


def test_a_byte_order_mark_is_not_part_of_the_file(folder):
    """Files that some editors begin with U+FEFF load."""
    assert _load_file("\ufeff[train]\nsteps = 5\n").config.train.steps == 5


def test_loading_imports_no_heavy_package():
    """The loader costs pydantic's own import time: no torch, numpy, typer or textual comes with it."""
    code = "import sys, plt_tui.config.load; print({'torch', 'numpy', 'typer', 'textual', 'asyncio'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def _values(schema):
    """Any value that the JSON schema of a field allows."""
    if "anyOf" in schema:
        return st.one_of(map(_values, schema["anyOf"]))
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum", [schema.get("const")]))
    if "items" in schema:
        return st.lists(_values(schema["items"]), max_size=3, unique=True).map(tuple)
    if "prefixItems" in schema:
        return st.tuples(*map(_values, schema["prefixItems"]))
    low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum", schema.get("exclusiveMaximum"))
    open_low, open_high = "exclusiveMinimum" in schema, "exclusiveMaximum" in schema
    match schema["type"]:
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(low, LARGEST if high is None else high - open_high)
        case "number":
            return st.floats(low, high, exclude_min=open_low, exclude_max=open_high, allow_infinity=False)
        case _ if "pattern" in schema:
            return st.from_regex(schema["pattern"].replace("$", r"\Z"))
        case _:
            return st.text(min_size=schema.get("minLength", 0))


def _configs():
    root = RunConfig.model_json_schema()
    sections = {
        section: st.fixed_dictionaries({key: _values(schema) for key, schema in root["$defs"][name]["properties"].items()})
        for section, name in ((s, p["$ref"].rpartition("/")[2]) for s, p in root["properties"].items())
    }
    return st.fixed_dictionaries(sections).map(_consistent).map(RunConfig.model_validate)


def _consistent(tree):
    """`tree` with the values changed that must fit each other."""
    model, optim, data = tree["model"], tree["optim"], tree["data"]
    data["train"] = data["train"] or "text"
    data["weights"] = ()
    model |= {"preset": "", "heads": 2, "kv_heads": model["kv_heads"] % 3, "width": 4 * (model["width"] % 10**6 + 1)}
    optim["min_lr"] = min(optim["lr"], optim["min_lr"])
    tree["alerts"]["webhook"] = f"https://box.example/{quote(tree['alerts']['webhook'])[:500]}"
    return tree


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], deadline=None)
@given(_configs())
def test_a_resolved_config_reads_back_to_the_bit(config):
    """`from_toml(to_toml(config))` is `config`, floats and tuples included, and the text is stable."""
    text = to_toml(config)
    again = from_toml(text)
    assert again == config
    assert repr(again) == repr(config)
    assert to_toml(again) == text


def test_a_record_of_an_older_version_still_reads():
    """Keys missing from a run folder's config have their defaults; preset and `lr / 10` rules do not rewrite a record."""
    config = from_toml('[model]\npreset = "gpt2"\n[optim]\nlr = 0.01\n')
    assert (config.model.width, config.optim.min_lr) == (RunConfig().model.width, RunConfig().optim.min_lr)


def test_a_damaged_record_is_a_usage_error():
    """A wrong value in a run folder's config is told like one in a user's."""
    with pytest.raises(UsageError, match=r"^config\.toml:1: train\.steps: expected a whole number >= 0, found -1$"):
        from_toml("train.steps = -1")
