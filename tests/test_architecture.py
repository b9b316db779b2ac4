"""The import arrows of the house, read from every module's source; see docs/architecture.md."""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import stylebatch

PACKAGE = Path(stylebatch.__file__).parent
ROOT = "stylebatch"

BASE = frozenset({"errors", "quoting", "recipe", "recipe_text", "objectstore", "layout", "pairs"})
CRAFTS = frozenset({"synthesis", "pictures", "storage", "manifest", "results"})
USES = frozenset({"pair", "job", "design", "report"})

ALLOWED: Mapping[str, frozenset[str]] = {
    "errors": frozenset(),
    "rules": frozenset(),
    "quoting": frozenset(),
    "recipe": frozenset({"errors", "rules", "quoting"}),
    "recipe_text": frozenset({"errors", "quoting", "recipe"}),
    "objectstore": frozenset({"errors", "quoting"}),
    "layout": frozenset({"errors", "objectstore"}),
    "pairs": frozenset({"errors", "objectstore", "recipe"}),
    "yaml_file": frozenset({"errors", "objectstore", "quoting"}),
    "recipe_file": BASE | {"yaml_file"},
    **dict.fromkeys(CRAFTS, BASE),
    "work": BASE,
    "output": BASE | {"results"},
    **dict.fromkeys(USES, BASE | CRAFTS | {"work"}),
    "design": BASE | CRAFTS | {"work", "yaml_file"},
    "report": BASE | CRAFTS | {"work", "output"},
    "audit": BASE | CRAFTS | {"work", "output", "pair", "job"},
    "cluster": BASE | CRAFTS | {"work"} | USES,
    "display": BASE | CRAFTS | {"work", "cluster"} | USES,
    "cli": BASE | CRAFTS | {"recipe_file", "work", "cluster", "display", "audit"} | USES,
    "__main__": frozenset({"cli"}),
}
"""The rooms (modules and folders of the package) that each room may import, besides itself."""

OWNERS: Mapping[str, tuple[str, ...]] = {
    "ray": ("cluster",),
    "boto3": ("storage",),
    "botocore": ("storage",),
    "s3transfer": ("storage",),
    "torch": ("synthesis", "pictures.encoding", "pair", "audit", "cluster.worker"),
    "torchvision": ("synthesis",),
}
"""Where alone a dependency may be imported."""

SPEAKERS = ("cli", "__main__")
"""Who may print and exit."""


def sources() -> dict[str, str]:
    """Every module's source by its dotted name; a package by the package's."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = (ROOT, *path.relative_to(PACKAGE).with_suffix("").parts)
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path.read_text(encoding="utf-8")
    return found


@functools.cache
def nodes(source: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(source)))


def imported(module: str, modules: Mapping[str, str], is_package: bool) -> Iterator[str]:
    """Dotted names of what a module imports, anywhere in it; ``from a import b``: a.b if that is a module."""
    for node in nodes(modules[module]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = _origin(node, module, is_package)
            for alias in node.names:
                name = f"{origin}.{alias.name}"
                yield name if name in modules or origin == ROOT else origin


def _origin(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    up = node.level - is_package
    folder = module.split(".")[: -up or None]
    return ".".join([*folder, *([node.module] if node.module else [])])


def is_package(module: str) -> bool:
    return (PACKAGE.parent / Path(*module.split(".")) / "__init__.py").exists()


def room(module: str) -> str:
    """The part after the package's name: a module of the house or a folder."""
    return module.split(".")[1] if "." in module else ""


def arrow_problems(modules: Mapping[str, str]) -> Iterator[str]:
    """Imports that no arrow allows."""
    for module in modules:
        for target in imported(module, modules, is_package(module)):
            if target.split(".")[0] == ROOT and not _may_import(module, target, modules):
                yield f"{module} imports {target}"
            yield from _owner_problems(module, target)


def _may_import(module: str, target: str, modules: Mapping[str, str]) -> bool:
    if module == ROOT:
        return room(target) in ALLOWED
    if target in (ROOT, f"{ROOT}.__version__"):  # for the version
        return True
    if target not in modules:
        return False
    here, there = room(module), room(target)
    return here == there or there in ALLOWED.get(here, ())


def _owner_problems(module: str, target: str) -> Iterator[str]:
    owners = OWNERS.get(target.split(".")[0])
    places = [f"{ROOT}.{owner}" for owner in owners or ()]
    if owners and not any(module == place or module.startswith(place + ".") for place in places):
        yield f"{module} imports {target}"


def voice_problems(modules: Mapping[str, str]) -> Iterator[str]:
    """Calls that print or exit, or that import what the source does not show, elsewhere than allowed."""
    for module, source in modules.items():
        for node in nodes(source):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if name in ("print", "sys.exit", "os._exit", "exit", "quit") and room(module) not in SPEAKERS:
                yield f"{module} calls {name}"
            if isinstance(node, ast.Name) and node.id == "SystemExit" and room(module) not in SPEAKERS:
                yield f"{module} names SystemExit"
            if name.endswith(("import_module", "__import__")) and module != ROOT:
                yield f"{module} calls {name}"


def cycles(modules: Mapping[str, str]) -> Iterator[str]:
    """Modules that import themselves over others. The package's own ``__init__`` has re-exports alone."""
    arrows = {
        module: {name for name in imported(module, modules, is_package(module)) if name in modules} - {ROOT}
        for module in modules
        if module != ROOT
    }
    for start in sorted(arrows):
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for target in arrows[waiting.pop()] - seen:
                seen.add(target)
                waiting.append(target)
        if start in seen:
            yield f"{start} is part of a cycle"


def problems(modules: Mapping[str, str]) -> list[str]:
    return [*arrow_problems(modules), *voice_problems(modules), *cycles(modules)]


def test_the_house_keeps_its_arrows() -> None:
    assert problems(sources()) == []


def test_every_room_has_its_place() -> None:
    assert {room(module) for module in sources()} - {""} == set(ALLOWED)


@pytest.mark.parametrize(
    ("module", "source", "problem"),
    [
        ("errors", "import stylebatch.recipe", "stylebatch.errors imports stylebatch.recipe"),
        ("recipe", "from stylebatch.objectstore import is_s3", "imports stylebatch.objectstore"),
        ("synthesis.vgg", "from stylebatch.pictures import decode", "imports stylebatch.pictures"),
        ("synthesis.vgg", "from ..pictures.sizes import resize", "imports stylebatch.pictures.sizes"),
        ("manifest", "from ..storage import UriStore", "imports stylebatch.storage"),
        ("manifest.rows", "def f():\n    from stylebatch.work import Task", "imports stylebatch.work"),
        ("results", "if TYPE_CHECKING:\n    from stylebatch.job import Job", "imports stylebatch.job"),
        ("work", "import stylebatch.results as r", "stylebatch.work imports stylebatch.results"),
        ("pair.batch", "from stylebatch.job import Job", "stylebatch.pair.batch imports stylebatch.job"),
        ("job.book", "from stylebatch.cluster import schedule", "imports stylebatch.cluster.schedule"),
        ("cluster.schedule", "from stylebatch.display import count", "imports stylebatch.display"),
        ("display", "from stylebatch.cli import main", "stylebatch.display imports stylebatch.cli"),
        ("work", "from stylebatch import Recipe", "stylebatch.work imports stylebatch.Recipe"),
        ("work", "from stylebatch import cli", "stylebatch.work imports stylebatch.cli"),
        ("job.book", "import ray", "stylebatch.job.book imports ray"),
        ("cluster.jobs", "from boto3.session import Session", "imports boto3.session"),
        ("manifest.rows", "import botocore", "stylebatch.manifest.rows imports botocore"),
        ("pictures.sizes", "import torch.nn", "stylebatch.pictures.sizes imports torch.nn"),
        ("cluster.driver", "def f():\n    import torch", "stylebatch.cluster.driver imports torch"),
        ("synthesis.lbfgs", "print('step')", "stylebatch.synthesis.lbfgs calls print"),
        ("pair.batch", "import sys\nsys.exit(1)", "stylebatch.pair.batch calls sys.exit"),
        ("pair.batch", "raise SystemExit", "stylebatch.pair.batch names SystemExit"),
        ("pair.batch", "importlib.import_module('stylebatch.job')", "calls importlib.import_module"),
        ("pair.cache", "from stylebatch.pair import batch", "stylebatch.pair.cache is part of a cycle"),
        ("job.identity", "from . import ledger", "stylebatch.job.identity is part of a cycle"),
    ],
)
def test_each_kind_of_slip_is_noticed(module: str, source: str, problem: str) -> None:
    changed = sources()
    name = f"{ROOT}.{module}"
    assert name in changed
    found = problems(changed | {name: f"{changed[name]}\n{source}\n"})
    assert any(problem in line for line in found), found


def test_a_new_room_needs_a_place() -> None:
    changed = sources() | {f"{ROOT}.attic": "from stylebatch.errors import StylebatchError"}
    assert f"{ROOT}.attic imports {ROOT}.errors" in problems(changed)


def test_the_package_itself_imports_no_torch() -> None:
    assert not [line for line in arrow_problems({ROOT: sources()[ROOT]}) if "torch" in line]
    changed = sources()
    changed[ROOT] += "\nimport torch\n"
    assert f"{ROOT} imports torch" in problems(changed)


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("stylebatch.cli", "torch ray boto3 pyarrow"),
        ("stylebatch.cli, stylebatch.job, stylebatch.display, stylebatch.results", "torch ray boto3"),
        ("stylebatch.cluster.schedule, stylebatch.cluster.lookahead", "torch ray boto3"),
        ("stylebatch.cluster.plans, stylebatch.cluster.departures", "torch ray boto3"),
        ("stylebatch.cluster.feature_status", "torch ray boto3"),
        ("stylebatch.cluster.driver, stylebatch.cluster.jobs", "torch boto3"),
        ("stylebatch.cluster.worker, stylebatch.pair.batch", "pyarrow boto3"),
    ],
)
def test_heavy_libraries_are_imported_only_when_they_are_needed(modules: str, absent: str) -> None:
    program = f"import sys, {modules}; print(*(set({absent.split()}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
