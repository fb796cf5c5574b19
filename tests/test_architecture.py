"""The shape of the code: who may import whom, no cycles, no long files or functions, a docstring in every module.

LAYERS is the table of docs/ARCHITECTURE.md in Python; a change of the one is a change of the other. Everything is read from the
source text: nothing of the package is imported here.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What the modules of one package may import beside the standard library, `plt_tui` itself and their own package."""

    ours: tuple[str, ...] = ()
    """Packages or modules of plt_tui, with all below them."""
    others: tuple[str, ...] = ()
    """Third-party packages."""
    lazily: tuple[str, ...] = ()
    """Packages or modules of plt_tui that may be imported inside functions only: they are heavy, or not always needed."""


CORE = ("plt_tui.errors", "plt_tui.failpoints", "plt_tui.config", "plt_tui.protocol")

LAYERS = {
    "plt_tui.errors": Layer(),
    "plt_tui.failpoints": Layer(),
    "plt_tui.config": Layer(ours=("plt_tui.errors",), others=("pydantic", "tomli", "tomli_w")),
    "plt_tui.protocol": Layer(ours=("plt_tui.errors", "plt_tui.failpoints")),
    "plt_tui.plugins": Layer(ours=("plt_tui.errors",)),
    "plt_tui.data": Layer(
        ours=("plt_tui.errors", "plt_tui.config", "plt_tui.plugins"), others=("numpy", "tokenizers", "pyarrow", "zstandard")
    ),
    "plt_tui.model": Layer(ours=("plt_tui.errors", "plt_tui.config", "plt_tui.plugins"), others=("torch",)),
    "plt_tui.weights": Layer(
        ours=("plt_tui.errors", "plt_tui.config", "plt_tui.data", "plt_tui.model"), others=("torch", "numpy", "safetensors")
    ),
    "plt_tui.training": Layer(
        ours=(*CORE, "plt_tui.plugins", "plt_tui.data", "plt_tui.model", "plt_tui.weights"),
        others=("torch", "numpy", "safetensors"),
    ),
    "plt_tui.control": Layer(ours=CORE, others=("psutil", "pynvml")),
    "plt_tui.exporters": Layer(ours=(*CORE, "plt_tui.control", "plt_tui.plugins")),
    "plt_tui.server": Layer(ours=(*CORE, "plt_tui.control"), others=("aiohttp", "prometheus_client")),
    "plt_tui.views": Layer(ours=(*CORE, "plt_tui.control.state"), others=("rich",), lazily=("plt_tui.views.tui",)),
    "plt_tui.views.tui": Layer(ours=(*CORE, "plt_tui.control.state", "plt_tui.views"), others=("textual", "rich", "numpy")),
    "plt_tui.client": Layer(
        ours=(*CORE, "plt_tui.control", "plt_tui.views.address", "plt_tui.views.client", "plt_tui.views.source"),
        others=("numpy",),
        lazily=("plt_tui.views.remote",),  # only for a run on another machine
    ),
    "plt_tui.web": Layer(ours=("plt_tui.errors", "plt_tui.protocol", "plt_tui.server"), others=("aiohttp",)),
    "plt_tui.cli": Layer(
        ours=("plt_tui.errors", "plt_tui.config"),
        others=("typer",),
        lazily=(
            "plt_tui.protocol",
            "plt_tui.control",
            "plt_tui.server",
            "plt_tui.exporters",
            "plt_tui.web",
            "plt_tui.client",
            "plt_tui.views",
            "plt_tui.plugins",
            "plt_tui.data",
            # In the commands that compute in their own process: generate, eval, export, import.
            "plt_tui.model",
            "plt_tui.training",
            "plt_tui.weights",
        ),
    ),
    "plt_tui.__main__": Layer(ours=("plt_tui.cli",)),
    "plt_tui": Layer(
        lazily=(
            "plt_tui.errors",
            "plt_tui.config",
            "plt_tui.protocol.events",
            "plt_tui.plugins",
            "plt_tui.data",
            "plt_tui.model",
            "plt_tui.training",
            "plt_tui.control.state",
            "plt_tui.client",
        )
    ),
}
"""The longest name that a module's own begins with is its layer."""


@dataclass(frozen=True, kw_only=True)
class Import:
    """One import of `target` (a full module name) in line `line`."""

    target: str
    line: int
    lazy: bool
    """Inside a function."""
    typing: bool
    """Under `if TYPE_CHECKING`: it binds the layers, but nothing is loaded."""


def _module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {_module_name(path): path for path in sorted((ROOT / "plt_tui").rglob("*.py"))}
TREES = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in SOURCES.items()}


def _targets(node: ast.Import | ast.ImportFrom, module: str, *, is_package: bool) -> list[str]:
    """Modules that an import statement names; `from package import module` names the module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        parents = module.split(".")
        kept = len(parents) - node.level + is_package
        base = ".".join([*parents[:kept], *([node.module] if node.module else [])])
    return [full if (full := f"{base}.{alias.name}") in SOURCES else base for alias in node.names]


def _imports(tree: ast.AST, module: str, *, is_package: bool = False) -> Iterator[Import]:
    """All imports of a module, wherever they stand."""

    def walk(node: ast.AST, *, lazy: bool, typing: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for target in _targets(node, module, is_package=is_package):
                yield Import(target=target, line=node.lineno, lazy=lazy, typing=typing)
        lazy = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing = typing or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        for child in ast.iter_child_nodes(node):
            yield from walk(child, lazy=lazy, typing=typing)

    yield from walk(tree, lazy=False, typing=False)


def _is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _layer_name(module: str) -> str:
    return max((name for name in LAYERS if _is_within(module, name)), key=len)


def _is_allowed(found: Import, layer_name: str) -> bool:
    layer = LAYERS[layer_name]
    if not _is_within(found.target, "plt_tui"):
        top = found.target.partition(".")[0]
        return top in sys.stdlib_module_names or top in layer.others
    if found.target == "plt_tui" or _layer_name(found.target) == layer_name:
        return True
    allowed = layer.ours + (layer.lazily if found.lazy or found.typing else ())
    # The closest name decides: `views` may be open to the terminal UI while `views.tui` is open lazily only.
    closed = [] if found.lazy or found.typing else [name for name in layer.lazily if _is_within(found.target, name)]
    return any(_is_within(found.target, name) for name in allowed) and not closed


def _violations(tree: ast.AST, module: str, *, is_package: bool = False) -> list[str]:
    layer_name = _layer_name(module)
    return [
        f"{module}:{found.line} imports {found.target}" + (" at module level" if not found.lazy else "")
        for found in _imports(tree, module, is_package=is_package)
        if not _is_allowed(found, layer_name)
    ]


def _is_package(module: str) -> bool:
    return SOURCES[module].name == "__init__.py"


@pytest.mark.parametrize("module", SOURCES)
def test_imports_follow_the_layers(module: str) -> None:
    """A module imports only what the row of its package in LAYERS allows."""
    assert _violations(TREES[module], module, is_package=_is_package(module)) == []


@pytest.mark.parametrize(
    ("module", "source", "is_allowed"),
    [
        ("plt_tui.control.hub", "import asyncio, psutil", True),
        ("plt_tui.control.hub", "import torch", False),
        ("plt_tui.control.hub", "def f():\n    import torch.nn", False),
        ("plt_tui.control.hub", "from plt_tui.training import worker", False),
        ("plt_tui.control.hub", "from ..training import worker", False),
        ("plt_tui.control.hub", "from .state import RunState", True),
        ("plt_tui.views.console", "from plt_tui.control.state import RunState", True),
        ("plt_tui.views.console", "from plt_tui.control.hub import Hub", False),
        ("plt_tui.views.console", "from plt_tui.control import hub", False),
        ("plt_tui.views.console", "import numpy as np", False),
        ("plt_tui.views.console", "from plt_tui.views.tui.app import TrainingApp", False),
        ("plt_tui.views.console", "def f():\n    from plt_tui.views.tui.app import TrainingApp", True),
        ("plt_tui.views.tui.app", "import numpy, textual", True),
        ("plt_tui.views.tui.app", "from plt_tui.views.model import RunModel", True),
        ("plt_tui.cli.run", "import typer", True),
        ("plt_tui.cli.run", "from plt_tui.control.hub import Hub", False),
        ("plt_tui.cli.run", "def f():\n    from plt_tui.control.hub import Hub", True),
        ("plt_tui.cli.run", "if TYPE_CHECKING:\n    from plt_tui.control.hub import Hub", True),
        ("plt_tui.cli.run", "from plt_tui.training.worker import main", False),
        ("plt_tui.protocol.events", "from plt_tui.config.schema import RunConfig", False),
        ("plt_tui.client.connection", "from plt_tui.views.client import HubClient", True),
        ("plt_tui.client.connection", "from plt_tui.views.model import RunModel", False),
        ("plt_tui.client.connection", "def f():\n    import torch", False),
        ("plt_tui.data.cursor", "from plt_tui import __version__", True),
    ],
)
def test_the_check_tells_right_from_wrong(module: str, source: str, is_allowed: bool) -> None:
    """The reading of imports sees relative, lazy and typing-only ones, and judges them by the table."""
    assert (_violations(ast.parse(source), module) == []) is is_allowed


def test_every_module_belongs_to_a_layer_of_its_own() -> None:
    """Nothing lies at the top of the package but the modules that the table names, and there is no drawer for odds and ends."""
    assert [module for module in SOURCES if _layer_name(module) == "plt_tui"] == ["plt_tui"]
    assert [module for module in SOURCES if module.rpartition(".")[2] in {"utils", "util", "helpers", "misc", "common"}] == []


def test_no_import_cycle() -> None:
    """What is imported while modules load forms no cycle."""
    graph = {
        module: {
            found.target
            for found in _imports(tree, module, is_package=_is_package(module))
            if found.target in SOURCES and not found.lazy and not found.typing
        }
        for module, tree in TREES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


def test_files_are_short() -> None:
    """A file that outgrows the limit holds more than one thing."""
    lengths = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in SOURCES.items()}
    assert {module: lines for module, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def test_functions_are_short() -> None:
    """A function fits on a screen."""
    lengths = {
        f"{module}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {function: lines for function, lines in lengths.items() if lines > MAX_FUNCTION_LINES} == {}


def test_every_module_says_what_it_is_for() -> None:
    """Each module begins with a docstring."""
    assert [module for module, tree in TREES.items() if not ast.get_docstring(tree)] == []


def test_no_bare_except() -> None:
    """An `except:` without a class also swallows the wish to stop."""
    bare = [
        f"{module}:{node.lineno}"
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert bare == []


def test_the_readme_names_every_module() -> None:
    """The tree in the README has a line for each file of the package, at its depth, and none for a file that is not there."""
    tree = (ROOT / "README.md").read_text().split("## The tree")[1].split("```")[1]
    listed: list[str] = []
    folders: list[str] = []
    for line in tree.split("\n"):
        name = line.split()[0] if line.strip() else ""
        depth = (len(line) - len(line.lstrip())) // 2
        if name.endswith("/"):
            folders[depth:] = [name]
        elif name.endswith(".py"):
            listed.append("".join(folders[:depth]) + name)
    files = [path.relative_to(ROOT).as_posix() for path in (ROOT / "plt_tui").rglob("*.py") if path.name != "__init__.py"]
    assert sorted(listed) == sorted(files)
