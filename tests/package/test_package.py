"""The package as such: version, stubs, what an import pulls in, docstrings, public names."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import noisycells as nc
from noisycells import _core

PACKAGE = Path(nc.__file__).parent
HEAVY = ("torch", "sklearn", "scipy", "matplotlib", "mlxtend", "click", "tqdm", "rich")


# --------------------------------------------------------------------------- version


def test_one_version() -> None:
    assert nc.__version__ == _core.__version__ == importlib.metadata.version("noisycells")
    assert re.fullmatch(r"\d+\.\d+\.\d+", nc.__version__)


def test_version_is_written_in_one_place() -> None:
    """Nowhere in the package's text; in the source tree, only in pyproject.toml."""
    for path in [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyi")]:
        assert not re.search(r"__version__\s*(:\s*str\s*)?=", path.read_text()), path
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    if pyproject.exists():
        assert f'\nversion = "{nc.__version__}"\n' in pyproject.read_text()


# --------------------------------------------------------------------------- imports


def imported_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print(*{{m.split('.')[0] for m in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_import_is_light() -> None:
    assert imported_by("import noisycells").isdisjoint(HEAVY)


def test_listing_devices_is_light() -> None:
    code = "import noisycells as nc; nc.devices.table()"
    assert imported_by(code).isdisjoint(HEAVY)


# Data flows one way; a room may import itself and what stands before it.
ROOMS = [
    {"_float32", "_types", "_analog", "_arguments", "_text", "_figure", "_core", "runtime"},
    {"reference"},
    {"random", "bits"},
    {"channel"},
    {"devices"},
    {"storage", "crossbar", "io"},
    {"data", "intervals", "torch"},
    {"speed", "studies"},
    {"cli"},
]


def modules() -> Iterator[str]:
    yield "noisycells"
    for found in pkgutil.walk_packages([str(PACKAGE)], "noisycells."):
        yield found.name


def imports_of(path: Path, name: str) -> set[str]:
    """Rooms of this package that a module imports, at the top or inside functions."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
            origin = f"{base}.{node.module}" if node.level and node.module else node.module or base
            found |= (
                {f"{origin}.{a.name}" for a in node.names} if origin == "noisycells" else {origin}
            )
    return {m.split(".")[1] for m in found if m.startswith("noisycells.")}


def imports_of_modules() -> Iterator[tuple[str, str, set[str]]]:
    """(name, room, rooms it imports) of each module but the package itself."""
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts != ("__init__",):
            name = ".".join(("noisycells", *(p for p in parts if p != "__init__")))
            yield name, parts[0], imports_of(path, name)


def test_rooms_only_import_lower_rooms() -> None:
    rank = {module: i for i, room in enumerate(ROOMS) for module in room}
    for name, own, imported in imports_of_modules():
        assert own in rank, f"{own}: a module of no room; name its room in ROOMS"
        for other in imported & rank.keys():
            assert rank[other] <= rank[own], f"{name} imports {other}, of a higher room"


def test_only_tests_import_the_reference() -> None:
    """It specifies; what the package computes with stands below it."""
    found = [n for n, room, used in imports_of_modules() if "reference" in used - {room}]
    assert found == []
    assert "reference" not in imports_of(PACKAGE / "__init__.py", "noisycells")


# --------------------------------------------------------------------------- names


def is_light(name: str) -> bool:
    return not name.startswith(("noisycells.torch", "noisycells.studies", "noisycells.cli"))


def module_or_skip(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if is_light(name):
            raise
        pytest.skip(f"an optional dependency is not installed: {error}")


@pytest.mark.parametrize("name", sorted(modules()))
def test_public_names_exist_and_are_documented(name: str) -> None:
    module = module_or_skip(name)
    assert module.__doc__, "no module docstring"
    public = getattr(module, "__all__", [])
    assert sorted(set(public)) == sorted(public)
    for key in public:
        for what, thing in documented_parts(key, getattr(module, key)):
            assert inspect.getdoc(thing), f"{name}: {what} has no docstring"


def documented_parts(key: str, thing: Any) -> Iterator[tuple[str, Any]]:
    if not callable(thing) and not inspect.ismodule(thing):
        return  # a constant: documented where it is defined
    yield key, thing
    if inspect.isclass(thing):
        for member, value in vars(thing).items():
            function = value.fget if isinstance(value, property) else value
            if isinstance(function, (staticmethod, classmethod)):
                function = function.__func__
            if not member.startswith("_") and inspect.isfunction(function):
                yield f"{key}.{member}", function


def test_the_package_lists_its_names() -> None:
    assert sorted(nc.__all__) == nc.__all__
    visible = {n for n in vars(nc) if not n.startswith("_")} - set(nc.__all__)
    others = {n for n in visible if not inspect.ismodule(getattr(nc, n))}
    assert others <= {"annotations"}, others


def test_types(tmp_path: Path) -> None:
    assert (PACKAGE / "py.typed").exists()
    root = Path(__file__).parents[2]
    if not (root / "pyproject.toml").exists():
        pytest.skip("mypy's settings are in the source tree")
    pytest.importorskip("mypy", reason="mypy not installed")
    pytest.importorskip("torch", reason="types of torch need torch")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path)],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


# --------------------------------------------------------------------------- the text itself


def sources() -> Iterator[Path]:
    """Python files of the package and, in the source tree, of its tests and benchmarks."""
    yield from PACKAGE.rglob("*.py")
    root = Path(__file__).parents[2]
    if (root / "pyproject.toml").exists():
        yield from (root / "tests").rglob("*.py")
        yield from (root / "bench").rglob("*.py")


def definitions(path: Path) -> Iterator[tuple[ast.AST, str]]:
    """Everything that has a docstring, and the docstring."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node, ast.get_docstring(node) or ""


def test_files_and_functions_are_short() -> None:
    """At most 500 lines a file, and 60 a function besides its docstring."""
    for path in sources():
        assert len(path.read_text().splitlines()) <= 500, path
        for node, docstring in definitions(path):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert node.end_lineno is not None
                lines = node.end_lineno - node.lineno + 1
                if docstring:
                    assert node.body[0].end_lineno is not None
                    lines -= node.body[0].end_lineno - node.body[0].lineno + 1
                assert lines <= 60, f"{path}: {node.name} has {lines} lines"


def test_docstrings_have_double_backticks() -> None:
    """Roles apart. Docstrings that commands show as their help have single ones."""
    for path in PACKAGE.rglob("*.py"):
        if "cli" not in path.parts:
            for node, docstring in definitions(path):
                shown = isinstance(node, ast.FunctionDef) and "list[Table]" in ast.unparse(
                    node.returns or ast.Constant(None)
                )
                code = re.sub(r"(?s):[a-z:]+:`[^`]*`|``[^`]*``", "", docstring)
                assert shown or "`" not in code, f"{path}: {code!r}"


# --------------------------------------------------------------------------- stubs of the core

# Names, and defaults as text; "*" stands before those that are keywords only.
Parameters = list[tuple[str, str | None]]


def stub() -> ast.Module:
    return ast.parse((PACKAGE / "_core.pyi").read_text())


def stub_parameters(f: ast.FunctionDef) -> Parameters:
    assert not (f.args.posonlyargs or f.args.vararg or f.args.kwarg)

    def text(default: ast.expr | None) -> str | None:
        return None if default is None else ast.unparse(default)

    names = [a.arg for a in f.args.args if a.arg != "self"]
    required: list[str | None] = [None] * (len(names) - len(f.args.defaults))
    found = list(zip(names, required + [text(d) for d in f.args.defaults], strict=True))
    if f.args.kwonlyargs:
        found.append(("*", None))
        keywords = zip(f.args.kwonlyargs, f.args.kw_defaults, strict=True)
        found += [(a.arg, text(d)) for a, d in keywords]
    return found


def bound_signatures(function: Any, name: str) -> list[Parameters]:
    """One a overload, from the signatures that pybind11 writes into docstrings."""
    lines = re.findall(rf"^(?:\d+\. )?{name}(\(.*\)) -> (.*)$", function.__doc__, re.M)
    found = []
    for parameters, _ in lines:
        tree = ast.parse(f"def f{parameters}: ...").body[0]
        assert isinstance(tree, ast.FunctionDef)
        found.append(stub_parameters(tree))
    return [p for p in found if p != [("args", None), ("kwargs", None)]]


def stub_definitions(body: list[ast.stmt]) -> dict[str, list[Parameters]]:
    found: dict[str, list[Parameters]] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef):
            found.setdefault(node.name, []).append(stub_parameters(node))
    return found


def test_stub_names_are_the_module_names() -> None:
    names = {n.name for n in stub().body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    names |= {n.target.id for n in stub().body if isinstance(n, ast.AnnAssign)}  # type: ignore[union-attr]
    public = {n for n in names if not re.match(r"_[A-Z]", n)}
    actual = {n for n in vars(_core) if not (n.startswith("__") and n != "__version__")}
    assert public == {n for n in actual if not n.startswith("_pybind")}


@pytest.mark.parametrize("name", sorted(stub_definitions(stub().body)))
def test_stub_signatures(name: str) -> None:
    written = stub_definitions(stub().body)[name]
    bound = bound_signatures(getattr(_core, name), name)
    assert bound, "the docstring shows no signature"
    # An overload of the module may be a union of types in the stub.
    assert all(b in written for b in bound) and all(w in bound for w in written)


def stub_classes() -> dict[str, ast.ClassDef]:
    return {n.name: n for n in stub().body if isinstance(n, ast.ClassDef)}


@pytest.mark.parametrize("name", sorted(stub_classes()))
def test_stub_classes(name: str) -> None:
    node, bound = stub_classes()[name], getattr(_core, name)
    members = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
    actual = {n for n in vars(bound) if not n.startswith("_")} | {"__init__"}
    assert members == actual
    for member, written in stub_definitions(node.body).items():
        if not isinstance(getattr(bound, member), property):
            assert bound_signatures(getattr(bound, member), member) == written
