"""Ways of damaging a file; each takes a random generator and the bytes, and gives other bytes."""

from __future__ import annotations

import io
import json
import struct
import tomllib
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

import tomli_w

Mutation = Callable[[Random, bytes], bytes]

STRANGE = (
    *(None, True, False, -1, 0, 1, 2**31, 2**63, 10**30, 10**400, -0.5, 1e308, float("nan"), float("inf")),
    *("", "x", "\0", "../x", "é" * 300, [], {}, [[]], [None], {"": None}, {"type": {}}, [1.5, "a"]),
)
CELLS = ("", " ", '"', ";", "NA", "-1", "1e400", "9" * 400, "007", "\0", "=1+1", "../../x", "é" * 300, "a\nb", "\ufeff")


def damage_bytes(rng: Random, data: bytes) -> bytes:
    """Flip, cut, repeat, blank or insert bytes, once or a few times."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        at, length = rng.randrange(len(content) + 1), rng.choice((1, 2, 4, 8, 64, 512))
        other = rng.randrange(len(content) + 1)
        match rng.randrange(7):
            case 0 | 1 if at < len(content):
                content[at] ^= 1 << rng.randrange(8)
            case 2:
                del content[at:]
            case 3:
                content[at : at + length] = content[other : other + length]
            case 4:
                content[at : at + length] = bytes([rng.choice((0, 0, 255, 127, 128))]) * length
            case 5:
                content[at:at] = rng.randbytes(length)
            case 6:
                del content[at : at + length]
    return bytes(content)


def damage_value(rng: Random, value: Any) -> Any:
    """Change one place inside a plain value: another type, a missing or unknown key, deep nesting."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        without = {name: item for name, item in value.items() if name != key}
        changed = value | {key: damage_value(rng, value[key])}
        return rng.choice((without, value | {"unknown": rng.choice(STRANGE)}, changed, changed, changed, changed))
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        kept = [damage_value(rng, value[at])]
        return value[:at] + rng.choice(([], kept, kept, kept, kept * 2)) + value[at + 1 :]
    if rng.random() < 0.05:
        for _ in range(rng.choice((50, 90, 200))):
            value = [value]
        return value
    return rng.choice(STRANGE)


def damage_json(rng: Random, data: bytes) -> bytes:
    """Damage the value, or at times the text or its nesting."""
    if rng.random() < 0.2:
        return damage_bytes(rng, data)
    if rng.random() < 0.02:
        return data[: rng.randrange(len(data))] + rng.choice((b"[", b'{"a":')) * 100_000
    value = json.loads(data)
    for _ in range(rng.choice((1, 1, 3))):
        value = damage_value(rng, value)
    return json.dumps(value).encode()


def damage_toml(rng: Random, data: bytes) -> bytes:
    """As `damage_json`, for TOML."""
    value = damage_value(rng, tomllib.loads(data.decode()))
    if rng.random() < 0.3 or not isinstance(value, dict):
        return damage_bytes(rng, data)
    try:
        return tomli_w.dumps(value).encode()
    except (TypeError, ValueError):  # TOML has no null
        return damage_bytes(rng, data)


def damage_table(rng: Random, data: bytes) -> bytes:
    """Damage a CSV file cell by cell, or its bytes."""
    if rng.random() < 0.4:
        return damage_bytes(rng, data)
    rows = [line.split(",") for line in data.decode().split("\n")]
    row = rng.choice(rows)
    match rng.randrange(4):
        case 0:
            row[rng.randrange(len(row))] = rng.choice(CELLS)
        case 1:
            row.insert(rng.randrange(len(row) + 1), rng.choice(CELLS))
        case 2:
            row.pop(rng.randrange(len(row)))
        case 3:
            rows.insert(rng.randrange(len(rows)), rng.choice(rows))
    separator = rng.choice((",", ",", ",", ";", "\t"))
    text = rng.choice(("\n", "\r\n", "\r")).join(separator.join(row) for row in rows)
    return text.encode(rng.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "cp1252")), errors="replace")


def damage_safetensors(rng: Random, data: bytes) -> bytes:
    """Damage what the header says, or the bytes."""
    if rng.random() < 0.4:
        return damage_bytes(rng, data)
    (length,) = struct.unpack("<Q", data[:8])
    header = damage_json(rng, data[8 : 8 + length])
    return struct.pack("<Q", rng.choice((len(header),) * 4 + (2**63, 0))) + header + data[8 + length :]


def damage_zip(rng: Random, data: bytes) -> bytes:
    """Damage one entry of an archive, which is packed anew with its right checksums; or the bytes."""
    if rng.random() < 0.3:
        return damage_bytes(rng, data)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(entry, archive.read(entry)) for entry in archive.infolist()]
    small = [i for i, (_, content) in enumerate(entries) if len(content) < 10_000]
    chosen = rng.choice(small or range(len(entries)))
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for i, (entry, content) in enumerate(entries):
            archive.writestr(entry.filename, damage_bytes(rng, content) if i == chosen else content)
    return out.getvalue()
