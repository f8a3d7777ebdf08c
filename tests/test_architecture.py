"""The rules that a machine can hold: arrows, sizes, names, docstrings."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import phypan
from tests.needs import missing

PACKAGE = Path(phypan.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))


def named(path: Path) -> str:
    return str(path.relative_to(PACKAGE.parent))


def test_imports_point_down() -> None:
    try:
        from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports
    except ImportError:
        missing("import-linter is not installed")
    assert lint_imports(config_filename=str(PACKAGE.parent / "pyproject.toml")) == (
        EXIT_STATUS_SUCCESS
    )


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_module_has_one_concept_and_not_more_than_300_lines(path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    assert ast.get_docstring(ast.parse(text)), "and says what it is"


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """(name, lines without the docstring) of each function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body
            first = body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                skipped = first.end_lineno - first.lineno + 1
            else:
                skipped = 0
            yield node.name, node.end_lineno - node.lineno + 1 - skipped


def test_no_function_has_more_than_80_lines_and_few_more_than_40() -> None:
    lengths = {
        f"{named(path)}:{name}": lines for path in MODULES for name, lines in functions(path)
    }
    assert {name: lines for name, lines in lengths.items() if lines > 80} == {}
    long = [name for name, lines in lengths.items() if lines > 40]
    assert len(long) <= len(lengths) // 20, long


def imported_for_type_checkers() -> list[tuple[str, str]]:
    """(module, name) of the imports under TYPE_CHECKING in phypan/__init__.py, as they stand."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (block,) = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    return [
        (node.module, alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]


def test_both_lists_of_the_public_api_agree() -> None:
    told = imported_for_type_checkers()
    names = {name for _, name in told}
    assert names == set(phypan.__all__)
    for module, name in told:
        if module == "phypan":
            assert name in phypan._MODULES
        else:
            assert f"phypan.{phypan._PLACES[name]}" == module, name


def test_the_public_names_are_sorted_and_there() -> None:
    assert phypan.__all__ == sorted(set(phypan.__all__))
    for name in phypan.__all__:
        assert getattr(phypan, name) is not None
    assert set(phypan.__all__) <= set(dir(phypan))
    with pytest.raises(AttributeError, match="no attribute 'what'"):
        phypan.what  # noqa: B018


def test_no_public_name_is_that_of_a_module() -> None:
    """Importing phypan.NAME would put the module in its place."""
    modules = {module.name for module in pkgutil.iter_modules([str(PACKAGE)])}
    assert set(phypan.__all__) & modules == set(phypan._MODULES)


@pytest.mark.parametrize("name", phypan.__all__)
def test_every_public_name_has_a_docstring_and_its_public_parts_too(name) -> None:
    value = getattr(phypan, name)
    if not (inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value)):
        return  # an annotation, or a number
    assert inspect.getdoc(value)
    if inspect.isclass(value):
        for part, member in vars(value).items():
            if part.startswith("_") or not (callable(member) or isinstance(member, property)):
                continue
            assert inspect.getdoc(member), f"{name}.{part}"


def test_formats_know_no_files_and_no_dumps() -> None:
    for path in (PACKAGE / "formats").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "open", named(path)


def test_what_has_no_wheels_for_power_is_not_needed() -> None:
    """numpy, numba and drgn missing: everything imports and works."""
    code = (
        "import sys\n"
        "for name in ('numpy', 'numba', 'drgn'): sys.modules[name] = None\n"
        "import phypan\n"
        "for name in phypan.__all__: getattr(phypan, name)\n"
        "assert all(plugin.failure is None for plugin in phypan.list_plugins())\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
