"""Templates: how pages print numbers, the same in the report and wherever else pages are made."""

from __future__ import annotations

from importlib.resources import files

import jinja2

from cytosae.views.parts import number_words as words
from cytosae.views.parts.page_parts import say

PRINTERS = (words.number, words.percent, words.whole, words.fixed, words.signed, words.tiny, words.count, say)
"""Filters that every template has."""


def make_environment(package: str) -> jinja2.Environment:
    """Templates of a package's folder ``templates``; every value is escaped unless it is marked as safe."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: read_template(package, name)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {function.__name__: function for function in PRINTERS}
    return environment


def read_template(package: str, name: str) -> str:
    """Text of a file in a package's folder ``templates``."""
    return (files(package) / "templates" / name).read_text(encoding="utf-8")
