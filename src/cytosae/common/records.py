"""Records: small JSON files, written whole or not at all, and checked whole when they are read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from cytosae.common.configuration import finite, from_plain
from cytosae.common.disk import disk_errors, write_durably
from cytosae.common.errors import ArtifactError, CytosaeError, UsageError

T = TypeVar("T")
DEEPEST = 100
"""Most levels of nesting; what is read goes through functions that call themselves for each."""


def write_json(path: Path, value: Any) -> None:
    """Write a plain value as indented JSON, atomically (written beside, then renamed); NaN and infinities as null."""
    text = json.dumps(finite(value), indent=2, allow_nan=False) + "\n"
    with disk_errors(path, None):
        write_durably(path, text.encode())


def read_record(kind: type[T], path: Path, mend: str) -> T:
    """Read a JSON file as ``kind``, a ``TypedDict``; see `cytosae.common.configuration.from_plain`.

    Parameters
    ----------
    kind : type
        ``dict`` for any table.
    path : Path
        The file.
    mend : str
        What to do where it cannot be read; ends the sentence.

    Raises
    ------
    ArtifactError
        The file cannot be read, holds no JSON, or lacks a field of ``kind`` or its type.
    """
    try:
        return parse_record(kind, path.read_bytes(), where=path.stem)
    except (OSError, ValueError) as problem:
        raise ArtifactError(f"{path} cannot be read ({problem}); {mend}.") from problem


def parse_record(kind: type[T], text: bytes, *, where: str) -> T:
    """The JSON in ``text`` as ``kind``, whose fields ``where`` precedes in messages; `ValueError` where it is not."""
    try:
        value = json.loads(text)
        _check_depth(value)
        return from_plain(kind, value, where=where)
    except (RecursionError, UsageError) as problem:
        raise ValueError(str(problem).removesuffix(".")) from problem


@contextmanager
def reading(path: Path, mend: str) -> Iterator[None]:
    """Turn whatever a library raises that reads the file at ``path`` into an `ArtifactError` that ends in ``mend``."""
    try:
        yield
    except CytosaeError:
        raise
    except Exception as problem:  # these libraries have no error type of their own, or more than one
        reason = " ".join(f"{type(problem).__name__}: {problem}".split())[:200].rstrip(".")
        raise ArtifactError(f"{path} cannot be read ({reason}); {mend}.") from problem


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [item for part in level if isinstance(part, (dict, list)) for item in _parts(part)]
        if not level:
            return
    raise ValueError(f"more than {DEEPEST} levels of nesting")


def _parts(value: dict[str, Any] | list[Any]) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value
