"""Typed values to plain JSON ones and back; the only place that knows how a choice of types is written down."""

from __future__ import annotations

import dataclasses
import math
import sys
import types
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NotRequired, TypeVar

from cytosae.common.errors import UsageError

T = TypeVar("T")
LEAVES = frozenset({str, int, float, bool, type(None)})
"""What is plain already, and most of what a page holds: a map alone has hundreds of numbers."""


def to_plain(config: Any) -> Any:
    """Turn a dataclass (or a container of them) into JSON values.

    A dataclass becomes a mapping; its class name is kept under ``"type"``, so that a field which admits several
    classes (``sparsity: ReluL1 | TopK``) can be read back.
    """
    if type(config) in LEAVES:
        return config
    names = _fields_of(type(config))
    if names is not None:
        return {"type": type(config).__name__, **{name: to_plain(getattr(config, name)) for name in names}}
    if isinstance(config, Mapping):
        return {str(key): to_plain(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [value if type(value) in LEAVES else to_plain(value) for value in config]
    return str(config) if isinstance(config, Path) else config


def finite(value: Any) -> Any:
    """`to_plain`, and null for NaN and the infinities, which JSON lacks."""
    kind = type(value)
    if kind in LEAVES:
        return value if kind is not float or math.isfinite(value) else None
    if kind is tuple or kind is list:
        if {*map(type, value)} == {float} and math.isfinite(sum(value)):  # most of what a page holds: values of maps
            return [*value]
        return [finite(one) for one in value]
    names = _fields_of(kind)
    if names is not None:
        return {"type": kind.__name__, **{name: finite(getattr(value, name)) for name in names}}
    return _without_nan(to_plain(value))


def from_plain(kind: type[T] | Any, data: Any, *, where: str = "configuration") -> T:
    """Build ``kind`` from JSON values.

    A dataclass, or one of several told apart by ``"type"``, is what is asked for: it has no fields beyond its own. A
    ``TypedDict`` is a record: fields that it does not know, a newer version's, are kept, and null is NaN where a float
    is needed. Other kinds are those of JSON, lists, tuples and mappings of them.

    Missing fields, unknown type names and values of the wrong type raise `UsageError` naming ``where``.
    """
    return _convert(kind, data, where)


def replace_from_plain(config: T, changes: Mapping[str, Any], *, where: str = "configuration") -> T:
    """Return ``config`` with the (possibly nested) plain ``changes`` applied; unknown names raise `UsageError`."""
    plain = to_plain(config)
    return from_plain(type(config), _merged(plain, changes), where=where)


def _merged(old: Any, new: Any) -> Any:
    if isinstance(old, Mapping) and isinstance(new, Mapping) and new.get("type", old.get("type")) == old.get("type"):
        return {**old, **{key: _merged(old.get(key), value) for key, value in new.items()}}
    return new


def _convert(kind: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _convert_union(typing.get_args(kind), value, where)
    if dataclasses.is_dataclass(kind):
        return _convert_dataclass(typing.cast("type", kind), value, where)
    if origin is typing.Literal:
        if value not in typing.get_args(kind):
            options = ", ".join(map(str, typing.get_args(kind)))
            raise UsageError(f"{where} is {_shown(value)}; choose one of: {options}.")
        return value
    if origin in (tuple, list):
        if not isinstance(value, (list, tuple)):
            raise UsageError(f"{where} is {_shown(value)}; a list is needed.")
        return origin(_convert(typing.get_args(kind)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if typing.is_typeddict(kind) or origin is dict:
        return _convert_mapping(kind, value, where)
    return _convert_scalar(kind, value, where)


def _convert_mapping(kind: Any, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{where} is {_shown(value)}; a table is needed.")
    if not typing.is_typeddict(kind):
        of_values = typing.get_args(kind)[1]
        return {key: _convert(of_values, item, f"{where}.{key}") for key, item in value.items()}
    hints = typing.get_type_hints(kind, include_extras=True)
    missing = [name for name, hint in hints.items() if name not in value and typing.get_origin(hint) is not NotRequired]
    if missing:
        raise UsageError(f"{where} has no {missing[0]!r}.")
    known = {name: _convert_entry(hints[name], value[name], f"{where}.{name}") for name in hints if name in value}
    return {**value, **known}


def _convert_entry(hint: Any, value: Any, where: str) -> Any:
    kind = typing.get_args(hint)[0] if typing.get_origin(hint) is NotRequired else hint
    return math.nan if kind is float and value is None else _convert(kind, value, where)


def _convert_scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < sys.float_info.max:
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if isinstance(kind, type) and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
        raise UsageError(f"{where} is {_shown(value)}; a value of type {kind.__name__} is needed.")
    return value


def _convert_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in options:
        return None
    classes: dict[str, Any] = {getattr(o, "__name__", ""): o for o in options if dataclasses.is_dataclass(o)}
    if classes and isinstance(value, Mapping):
        name = str(value.get("type"))
        if name not in classes:
            raise UsageError(f"{where} has the type {name!r}; choose one of: {', '.join(classes)}.")
        return _convert_dataclass(classes[name], value, where)
    plain = [option for option in options if option is not type(None) and not dataclasses.is_dataclass(option)]
    for option in plain:
        try:
            return _convert(option, value, where)
        except UsageError:
            continue
    names = ", ".join([getattr(option, "__name__", str(option)) for option in plain] + list(classes))
    raise UsageError(f"{where} is {_shown(value)}; one of these types is needed: {names}.")


def _convert_dataclass(kind: type, value: Any, where: str) -> Any:
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise UsageError(f"{where} is {_shown(value)}; a table of the fields of {kind.__name__} is needed.")
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind) if f.init}
    if value.get("type", kind.__name__) != kind.__name__:
        raise UsageError(f"{where} has the type {value['type']!r}; {kind.__name__} is needed.")
    unknown = sorted(set(value) - set(fields) - {"type"})
    if unknown:
        raise UsageError(f"{where} has no field {unknown[0]!r}; the fields are: {', '.join(sorted(fields))}.")
    arguments = {key: _convert(hints[key], item, f"{where}.{key}") for key, item in value.items() if key != "type"}
    try:
        return kind(**arguments)
    except TypeError as problem:
        raise UsageError(f"{where} is incomplete for {kind.__name__}: {problem}.") from problem


@cache
def _fields_of(kind: type) -> tuple[str, ...] | None:
    """What a dataclass is made from; None for other types."""
    return tuple(f.name for f in dataclasses.fields(kind) if f.init) if dataclasses.is_dataclass(kind) else None


def _without_nan(plain: Any) -> Any:
    if isinstance(plain, float):
        return plain if math.isfinite(plain) else None
    if isinstance(plain, dict):
        return {key: _without_nan(value) for key, value in plain.items()}
    return [_without_nan(value) for value in plain] if isinstance(plain, list) else plain


def _shown(value: Any) -> str:
    """A value as a sentence shows it, in one line and not too long."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
