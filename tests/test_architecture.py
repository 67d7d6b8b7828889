"""Who may import whom, and how long a module may be: read from the sources, nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ft_horovod", "simulator", "launch")
HEAVY = ("torch", "torchvision", "horovod", "mpi4py")
MAX_LINES = 300


@dataclass(frozen=True)
class Import:
    """`importer` names `module`, a dotted path that may end in the name of something inside a module."""

    importer: str
    module: str
    path: Path
    line: int
    at_start: bool  # runs when the module is imported, not inside a function nor for type checkers only


@dataclass(frozen=True)
class Rule:
    """What the modules of `package` may import."""

    name: str
    package: str
    only: tuple[str, ...] | None = None  # of the project, nothing but these
    never: tuple[str, ...] = ()
    never_at_start: tuple[str, ...] = ()
    but: tuple[str, ...] = ()  # modules of the package for which it does not hold

    def problem(self, one: Import) -> str | None:
        if not within(one.importer, self.package) or within(one.importer, *self.but):
            return None
        if self.only is not None and within(one.module, *PACKAGES) and not within(one.module, *self.only):
            return f"of the project only {', '.join(self.only)}"
        if within(one.module, *self.never):
            return "never"
        if one.at_start and within(one.module, *self.never_at_start):
            return "only inside a function"
        return None


RULES = (
    Rule("core is pure", "ft_horovod.core", only=("ft_horovod.core",), never=HEAVY),
    Rule("the simulator knows the core", "simulator", only=("ft_horovod.core", "simulator"), never=HEAVY),
    Rule(
        "training knows no shells",
        "ft_horovod.training",
        never=("ft_horovod.status", "ft_horovod.cli", "launch", "simulator"),
    ),
    Rule("membership knows the core", "ft_horovod.membership", only=("ft_horovod.core", "ft_horovod.membership")),
    Rule("launchers start light", "launch", never_at_start=HEAVY),
    *(
        Rule(f"nobody in {package} imports the command line", package, never=("ft_horovod.cli",), but=but)
        for package, but in (
            ("ft_horovod", ("ft_horovod.cli", "ft_horovod.__main__")),
            ("simulator", ()),
            ("launch", ()),
        )
    ),
)


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def modules(root: Path) -> Iterator[tuple[str, Path]]:
    """Name and path of every module of the packages under `root`."""
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(root: Path) -> Iterator[Import]:
    """Every import statement, and every `import_module` or `__import__` of a name that stands there as text."""
    for name, path in modules(root):
        for node, at_start in walk(ast.parse(path.read_text("utf-8"), str(path)), at_start=True):
            for module in imported(node, name, is_package=path.name == "__init__.py"):
                yield Import(name, module, path.relative_to(root), getattr(node, "lineno", 0), at_start)


def walk(node: ast.AST, *, at_start: bool) -> Iterator[tuple[ast.AST, bool]]:
    yield node, at_start
    later = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
    for_types = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    for child in ast.iter_child_nodes(node):
        runs = not later and not (for_types and isinstance(node, ast.If) and child in node.body)
        yield from walk(child, at_start=at_start and runs)


def imported(node: ast.AST, importer: str, *, is_package: bool) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=module, names=names, level=level):
            package = importer.split(".") if is_package else importer.split(".")[:-1]
            base = [*package[: len(package) - level + 1], *([module] if module else [])] if level else [module or ""]
            yield from (".".join([*base, alias.name]) for alias in names)
        case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called), args=[ast.Constant(value=str(text)), *_]):
            if called in ("import_module", "__import__"):
                yield text


def violations(root: Path, rules: tuple[Rule, ...] = RULES) -> list[str]:
    return [
        f"{one.path}:{one.line}: {one.importer} imports {one.module}: {problem}"
        for one in imports(root)
        for rule in rules
        if (problem := rule.problem(one))
    ]


def too_long(root: Path, limit: int = MAX_LINES) -> list[str]:
    counts = ((path.relative_to(root), len(path.read_text("utf-8").splitlines())) for _, path in modules(root))
    return [f"{path}: {count} lines, at most {limit}" for path, count in counts if count > limit]


# The project.


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_imports_keep_to_the_design(rule: Rule) -> None:
    assert violations(ROOT, (rule,)) == []


def test_modules_have_one_idea() -> None:
    assert too_long(ROOT) == []


def test_the_sources_are_found() -> None:
    found = dict(modules(ROOT))
    assert {"ft_horovod", "ft_horovod.core", "ft_horovod.core.recovery"} <= set(found)
    seen = {one.module for one in imports(ROOT) if one.importer == "ft_horovod.core.recovery"}
    assert "ft_horovod.core.layout.Layout" in seen


# The check itself: it fails where it should, and only there.

FINE = {
    "ft_horovod/__init__.py": "",
    "ft_horovod/__main__.py": "from ft_horovod.cli import main",
    "ft_horovod/cli.py": "import launch.mpirun\nimport simulator.kernel\nfrom ft_horovod.status import view",
    "ft_horovod/core/__init__.py": "",
    "ft_horovod/core/plan.py": "import json, torchlike\nfrom ft_horovod.core import errors\nfrom . import errors",
    "ft_horovod/membership/ulfm.py": "import mpi4py\nimport horovod.torch as hvd\nfrom ft_horovod.core.plan import x",
    "ft_horovod/training/loop.py": "import torch\nfrom ft_horovod.membership import protocol\nfrom ..core import plan",
    "simulator/kernel.py": "from ft_horovod.core.plan import x\nfrom . import models\nimport numpy",
    "launch/mpirun.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n"
    "else:\n    import json\ndef check():\n    import torch\n    from mpi4py import MPI\n",
}

BROKEN = [
    ("ft_horovod/core/plan.py", "import torch", "ft_horovod.core.plan imports torch: never"),
    ("ft_horovod/core/plan.py", "import torch.nn as nn", "imports torch.nn: never"),
    ("ft_horovod/core/plan.py", "def f():\n    from mpi4py import MPI", ":2: ft_horovod.core.plan imports mpi4py"),
    ("ft_horovod/core/plan.py", "import importlib\nimportlib.import_module('horovod')", "imports horovod: never"),
    ("ft_horovod/core/plan.py", "__import__('horovod.torch')", "imports horovod.torch: never"),
    ("ft_horovod/core/plan.py", "if x:\n  try:\n    import torch\n  except E:\n    pass", "imports torch: never"),
    ("ft_horovod/core/plan.py", "from ft_horovod.training import loop", "of the project only ft_horovod.core"),
    ("ft_horovod/core/plan.py", "from ft_horovod import training", "imports ft_horovod.training: of the project"),
    ("ft_horovod/core/plan.py", "import ft_horovod.corelib", "imports ft_horovod.corelib: of the project only"),
    ("ft_horovod/core/plan.py", "from ..training import loop", "imports ft_horovod.training.loop: of the project only"),
    ("ft_horovod/core/plan.py", "from .. import training", "imports ft_horovod.training: of the project only"),
    ("ft_horovod/core/__init__.py", "from ..training import loop", "imports ft_horovod.training.loop: of the project"),
    ("ft_horovod/core/plan.py", "import simulator", "imports simulator: of the project only"),
    ("ft_horovod/core/deep/er.py", "from ... import launch", "imports ft_horovod.launch: of the project only"),
    ("simulator/kernel.py", "from ft_horovod.membership.protocol import P", "only ft_horovod.core, simulator"),
    ("simulator/kernel.py", "import launch", "imports launch: of the project only ft_horovod.core, simulator"),
    ("simulator/kernel.py", "class A:\n    import torchvision", "imports torchvision: never"),
    ("simulator/kernel.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", "torch: never"),
    ("ft_horovod/training/loop.py", "from ft_horovod.status import view", "imports ft_horovod.status.view: never"),
    ("ft_horovod/training/loop.py", "from ft_horovod import cli", "imports ft_horovod.cli: never"),
    ("ft_horovod/training/loop.py", "def f():\n    import launch.hosts", "imports launch.hosts: never"),
    ("ft_horovod/training/loop.py", "import simulator.kernel", "imports simulator.kernel: never"),
    ("ft_horovod/membership/ulfm.py", "from ft_horovod.training import loop", "only ft_horovod.core, ft_horovod.mem"),
    ("launch/mpirun.py", "import horovod", "launch.mpirun imports horovod: only inside a function"),
    ("launch/mpirun.py", "class A:\n    from mpi4py import MPI", "imports mpi4py.MPI: only inside a function"),
    ("launch/mpirun.py", "from ft_horovod.cli import main", "launch.mpirun imports ft_horovod.cli.main: never"),
    ("simulator/kernel.py", "from ft_horovod import cli", "simulator.kernel imports ft_horovod.cli"),
    ("ft_horovod/status/view.py", "import ft_horovod.cli", "ft_horovod.status.view imports ft_horovod.cli: never"),
    ("ft_horovod/__init__.py", "from .cli import main", "ft_horovod imports ft_horovod.cli.main: never"),
]  # fmt: skip


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf-8")
    return root


def test_a_good_tree_passes(tmp_path: Path) -> None:
    root = tree(tmp_path, FINE)
    assert violations(root) == []
    assert too_long(root) == []


@pytest.mark.parametrize(("name", "text", "found"), BROKEN, ids=[f"{name}: {text!r}" for name, text, _ in BROKEN])
def test_a_bad_tree_fails(tmp_path: Path, name: str, text: str, found: str) -> None:
    root = tree(tmp_path, {**FINE, name: text})
    reported = violations(root)
    assert reported
    assert any(found in line for line in reported)
    assert all(line.startswith(f"{name}:") for line in reported)


def test_every_rule_can_fail(tmp_path: Path) -> None:
    failing = set()
    for number, (name, text, _) in enumerate(BROKEN):
        root = tree(tmp_path / str(number), {**FINE, name: text})
        failing |= {rule.name for rule in RULES if violations(root, (rule,))}
    assert failing == {rule.name for rule in RULES}


def test_a_long_module_is_found(tmp_path: Path) -> None:
    root = tree(
        tmp_path, {**FINE, "launch/slurm.py": "x = 1\n" * (MAX_LINES + 1), "launch/ok.py": "x = 1\n" * MAX_LINES}
    )
    assert too_long(root) == ["launch/slurm.py: 301 lines, at most 300"]
