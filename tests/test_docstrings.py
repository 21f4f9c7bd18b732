"""Docstrings are numpydoc: ``name : type``, and on the next line what it is; API pages and the help read them."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from docstring_parser import DocstringStyle, parse
from docstring_parser.common import Docstring

import cytosae

SOURCE = Path(cytosae.__file__).parent
Documented = ast.FunctionDef | ast.ClassDef
SENTENCE = re.compile(r";|\.\s|\bthe\b|\bis\b|\bwhere\b|->")


@cache
def documented() -> list[tuple[str, Documented, Docstring]]:
    """(where, definition, docstring) of every class and function that has one."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, Documented) and (text := ast.get_docstring(node)):
                where = f"{path.relative_to(SOURCE)}:{node.lineno} {node.name}"
                found.append((where, node, parse(text, style=DocstringStyle.NUMPYDOC)))
    return found


def is_command(where: str, node: Documented) -> bool:
    """Commands leave types to their annotations: what stands in their docstrings is shown to people."""
    return where.startswith("cli/") and isinstance(node, ast.FunctionDef)


def test_what_stands_behind_the_colon_is_a_type() -> None:
    wrong = [
        f"{where}: {entry.arg_name} : {entry.type_name}"
        for where, node, document in documented()
        for entry in document.params
        if not is_command(where, node) and (not entry.type_name or SENTENCE.search(entry.type_name))
    ]
    assert wrong == []


def test_every_entry_says_what_it_is() -> None:
    wrong = [
        f"{where}: {entry.arg_name}"
        for where, _, document in documented()
        for entry in document.params
        if not entry.description and "shape" not in (entry.type_name or "")
    ]
    assert wrong == []


def test_results_begin_with_their_type() -> None:
    wrong = [
        f"{where}: {result.type_name}"
        for where, _, document in documented()
        for result in document.many_returns
        if not result.type_name or SENTENCE.search(result.type_name)
    ]
    assert wrong == []


def test_only_what_is_there_is_described() -> None:
    wrong = []
    for where, node, document in documented():
        if not isinstance(node, ast.FunctionDef):
            continue
        given = node.args
        known = {a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg) if a}
        names = {name.strip(" *") for entry in document.params for name in entry.arg_name.split(",")}
        wrong += [f"{where}: {name}" for name in sorted(names - known)]
    assert wrong == []
