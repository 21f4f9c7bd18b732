"""Command-line options made from configuration dataclasses, so that there is one list of them."""

from __future__ import annotations

import dataclasses
import types
import typing
from functools import cache
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter
from docstring_parser import DocstringStyle, parse

TITLES = {
    "cells": "Cells",
    "backbone": "Backbone",
    "extract": "Extraction",
    "sae": "Sparse autoencoder",
    "reading": "Reading of tokens",
    "atlas": "Atlas",
    "localisation": "Localisation",
    "cohort": "Cohort",
    "report": "Report",
    "runtime": "Where it runs",
}
"""Section of a study's configuration -> heading in ``--help``, in this order."""


def options_of(kind: type, *sections: str) -> Any:
    """Annotated type whose command-line options are the fields of ``sections`` of the dataclass ``kind``, all optional.

    A field that admits several dataclasses (``sparsity: ReluL1 | TopK``) becomes ``--sae.sparsity.type`` and the fields
    of all of them; help texts come from the "Attributes" of the docstrings, defaults are shown beside.
    """
    hints = typing.get_type_hints(kind)
    inner = [(name, _section(hints[name], name)) for name in sections]
    fields = [(name, options, dataclasses.field(default_factory=options)) for name, options in inner]
    return Annotated[_named(kind.__name__, fields), Parameter(name="*", show_default=False)]


def some_of(kind: type, *names: str) -> Any:
    """Annotated type whose command-line options are the fields ``names`` of the dataclass ``kind``, with defaults."""
    hints, texts = typing.get_type_hints(kind), _texts(kind)
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    fields = [(n, Annotated[hints[n], Parameter(help=texts[n], negative_iterable=())], defaults[n]) for n in names]
    return Annotated[_named(kind.__name__, fields), Parameter(name="*")]


def changes_of(options: Any) -> dict[str, Any]:
    """What was given on the command line, as nested plain values; None stands for no option at all."""
    changes: dict[str, Any] = {}
    for field in () if options is None else dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            value = changes_of(value) or None
        if value is not None:
            changes[field.name] = value
    return changes


@cache
def _section(kind: type, name: str) -> type:
    return _optional(kind, Group(TITLES[name], sort_key=list(TITLES).index(name)))


def _optional(kind: type, group: Group) -> type:
    """Copy of a dataclass in which every field is optional and None."""
    hints = typing.get_type_hints(kind)
    texts = _texts(kind)
    fields = []
    for field in dataclasses.fields(kind):
        text = texts.get(field.name, "")
        classes: list[Any] = [option for option in _members(hints[field.name]) if dataclasses.is_dataclass(option)]
        if classes:
            inner = _choice(classes, text, group) if len(classes) > 1 else _optional(classes[0], group)
            fields.append(_field(field.name, inner, "", group, dataclasses.field(default_factory=inner)))
        else:
            fields.append(_field(field.name, hints[field.name] | None, _with_default(text, field), group))
    return _named(kind.__name__, fields)


def _field(name: str, hint: Any, text: str, group: Group, default: Any = None) -> tuple[str, Any, Any]:
    return name, Annotated[hint, Parameter(help=text, group=group, negative_iterable=())], default


def _texts(kind: type) -> dict[str, str]:
    """Field -> its text under "Attributes"."""
    described = parse(kind.__doc__ or "", style=DocstringStyle.NUMPYDOC).params
    return {name.strip(): " ".join((p.description or "").split()) for p in described for name in p.arg_name.split(",")}


def _choice(classes: list[Any], text: str, group: Group) -> type:
    """One optional dataclass with the fields of several, and ``type`` to choose among them."""
    kinds: Any = Literal[tuple(c.__name__ for c in classes)]
    fields = {"type": _field("type", kinds | None, text, group)}
    for option in classes:
        for name, hint in typing.get_type_hints(option).items():
            if name in fields or name not in {f.name for f in dataclasses.fields(option)}:
                continue
            owners = ", ".join(c.__name__ for c in classes if name in {f.name for f in dataclasses.fields(c)})
            own = next(f for f in dataclasses.fields(option) if f.name == name)
            words = f"{owners}: {_with_default(_texts(option).get(name, ''), own)}"
            fields[name] = _field(name, hint | None, words, group)
    return _named("_or_".join(c.__name__ for c in classes), list(fields.values()))


def _named(name: str, fields: list[Any]) -> type:
    # cyclopts takes classes of standard-library modules for plain values, and make_dataclass says "types"; of a module
    # that there is not it seeks no source, which would take a tenth of the time of --help
    return dataclasses.make_dataclass(name, fields, namespace={"__module__": "cytosae.options"})


def _members(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _with_default(text: str, field: dataclasses.Field[Any]) -> str:
    default = field.default_factory() if callable(field.default_factory) else field.default
    if default is dataclasses.MISSING or default is None:
        return text
    return f"{text} [{default}]".strip()
