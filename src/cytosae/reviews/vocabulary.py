"""The controlled vocabulary: what a concept of a blood smear can be called."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from cytosae.common.errors import UsageError


@dataclass(frozen=True)
class Term:
    """A term of the vocabulary.

    Attributes
    ----------
    key : str
        What is stored.
    family : str
        Key of the family it belongs to.
    words : str
        What is shown.
    synonyms : tuple of str
        What else it is called.
    excludes : tuple of str
        Keys that cannot be said of the same structure.
    seen_as : tuple of str
        Values of human attributes that mean it, ``column=value``.
    """

    key: str
    family: str
    words: str
    synonyms: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    seen_as: tuple[str, ...] = ()


@cache
def vocabulary() -> dict[str, Term]:
    """Key -> term, in the order of the file."""
    return {
        key: Term(
            key, of["family"], of["words"], *(tuple(of.get(name, ())) for name in ("synonyms", "excludes", "seen_as"))
        )
        for key, of in _file()["terms"].items()
    }


@cache
def families() -> dict[str, str]:
    """Key of each family -> its words."""
    return dict(_file()["families"])


def families_of(terms: Iterable[str]) -> frozenset[str]:
    """Families of terms."""
    return frozenset(vocabulary()[term].family for term in terms)


def find_term(said: str) -> Term | None:
    """The term that a word, a synonym or a key stands for; None where there is none."""
    wanted = said.strip().casefold()
    for term in vocabulary().values():
        if wanted in {name.casefold() for name in (term.key, term.words, *term.synonyms)}:
            return term
    return None


def term_of_value(column: str, value: str) -> Term | None:
    """The term that a value of a human attribute means; None where there is none."""
    return _seen_as().get(f"{column}={value}")


def check_terms(terms: Iterable[str]) -> tuple[str, ...]:
    """Terms as they are stored: each once, in the order of the vocabulary.

    Raises
    ------
    UsageError
        A term that the vocabulary does not have, or two that exclude each other.
    """
    said = set(terms)
    for term in sorted(said - set(vocabulary())):
        raise UsageError(f"There is no term {term[:60]!r}; choose among those offered, or write it as free text.")
    for term in sorted(said):
        clash = sorted(said & set(vocabulary()[term].excludes))
        if clash:
            raise UsageError(
                f"{vocabulary()[term].words!r} and {vocabulary()[clash[0]].words!r} exclude each other; keep one."
            )
    return tuple(key for key in vocabulary() if key in said)


@cache
def _seen_as() -> dict[str, Term]:
    return {value: term for term in vocabulary().values() for value in term.seen_as}


@cache
def _file() -> dict[str, dict[str, Any]]:
    return tomllib.loads((files("cytosae.reviews") / "vocabulary.toml").read_text(encoding="utf-8"))
