"""Reading torch's zip files (``torch.save``) without running anything that they say.

Unpickling a file means doing what it asks: importing modules, calling functions. Here the pickle inside is first
scanned for anything unusual, then rebuilt with stand-ins that only write down what was asked for; no name in the file
is ever imported, and no tensor is read before every claim about its size has been checked against the archive.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import torch
from torch import Tensor

from cytosae.common.errors import WeightsError

PICKLE_BYTES, PICKLE_OPCODES = 4 << 20, 50_000
"""Largest pickle that is looked at; the published one has 2 kB and 400 opcodes."""

STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
}
DTYPES = ("float32", "float64", "float16", "bfloat16")
_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_OPCODES = re.compile(
    "PROTO|FRAME|STOP|MARK|EMPTY_DICT|EMPTY_LIST|EMPTY_TUPLE|TUPLE[123]?|SETITEMS?|APPENDS?|NONE|NEWTRUE|NEWFALSE|"
    "BININT[12]?|LONG1|BINFLOAT|BINUNICODE|SHORT_BINUNICODE|BINPUT|LONG_BINPUT|MEMOIZE|BINGET|LONG_BINGET|GLOBAL|"
    "STACK_GLOBAL|REDUCE|NEWOBJ|BUILD|BINPERSID"
)


def read_torch_archive(path: Path, config_class: tuple[str, str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read ``{"cfg": <instance of config_class>, "state_dict": {name: tensor}}`` from a file of `torch.save`.

    Parameters
    ----------
    path : Path
        The file, in the zip format that torch writes since version 1.6.
    config_class : tuple of str
        (module, name) of the class of the cfg object; the class itself is never looked for.

    Returns
    -------
    tuple (dict of str to object, dict of str to Tensor)
        The cfg's fields as JSON values (devices and dtypes as strings), and the tensors by name, as stored.

    Raises
    ------
    WeightsError
        in one sentence with the offending name, for anything beyond what such a file needs. Nothing was executed.
    """
    with _open_archive(path) as archive:
        root = _check_entries(path, archive)
        content = _unpickle(path, _read_entry(path, archive, f"{root}/data.pkl"), config_class)
        if not isinstance(content, Mapping) or not {"cfg", "state_dict"} <= set(content):
            refuse(path, "holds no 'cfg' and 'state_dict'")
        config = _plain(path, content["cfg"])
        entries = content["state_dict"]
        if not isinstance(config, dict) or not isinstance(entries, Mapping):
            refuse(path, "has a 'cfg' or 'state_dict' that is no mapping")
        for name, entry in entries.items():
            if not isinstance(name, str) or not isinstance(entry, _TensorEntry):
                refuse(path, f"has an entry {name!r} in its state_dict that is no tensor")
            _check_storage(path, archive, root, entry.storage)
        return config, {name: _read_tensor(path, archive, root, entry) for name, entry in entries.items()}


def refuse(path: Path, what: str) -> NoReturn:
    """Raise the `WeightsError` of a file that is not trusted; ``what`` follows the path, as in "names 'os.system'"."""
    raise WeightsError(
        f"{path} {what}, so it was not read and nothing of it was executed; get the checkpoint again from its authors."
    )


# --- the archive -----------------------------------------------------------------------------------------------------


def _open_archive(path: Path) -> zipfile.ZipFile:
    if not path.is_file():
        raise WeightsError(f"{path} does not exist; give the path of the published .pt file.")
    with path.open("rb") as file:
        head = file.read(len(_LEGACY_MAGIC))
    if head == _LEGACY_MAGIC:
        raise WeightsError(
            f"{path} is in torch's legacy format (before version 1.6), which cannot be read safely; get it in the zip "
            "format, or have its authors save it again."
        )
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, UnicodeError) as problem:
        what = "is cut short or damaged" if head.startswith(b"PK") else "is no checkpoint in torch's zip format"
        raise WeightsError(f"{path} {what} ({problem}); download it again.") from problem


def _check_entries(path: Path, archive: zipfile.ZipFile) -> str:
    """Check every name and size in the archive; return the one folder that all entries lie in."""
    seen, roots, total = set(), set(), 0
    for entry in archive.infolist():
        name, parts = entry.filename, PurePosixPath(entry.filename).parts
        unsafe = "\\" in name or ":" in name or not name.isprintable() or name.startswith("/")
        if unsafe or len(parts) < 2 or ".." in parts:
            refuse(path, f"has an entry with the unsafe name {name!r}")
        if name in seen or entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 0x1:
            refuse(path, f"has an entry {name!r} that is repeated, compressed or encrypted")
        seen.add(name)
        roots.add(parts[0])
        total += entry.file_size
    # Entries are stored as they are, so together they cannot be larger than the file: no inflated claims.
    if total > path.stat().st_size:
        refuse(path, f"claims {total} bytes of content in a file of {path.stat().st_size}")
    root = next(iter(roots), "")
    if len(roots) != 1 or f"{root}/data.pkl" not in seen:
        refuse(path, "has no data.pkl in one common folder")
    if archive.getinfo(f"{root}/data.pkl").file_size > PICKLE_BYTES:
        refuse(path, f"has a data.pkl of more than {PICKLE_BYTES} bytes")
    if f"{root}/byteorder" in seen and _read_entry(path, archive, f"{root}/byteorder") != b"little":
        refuse(path, "has a 'byteorder' other than little-endian")
    return root


def _read_entry(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, RuntimeError, NotImplementedError) as problem:
        raise WeightsError(f"{path} is damaged at {name} ({problem}); download it again.") from problem


def _check_storage(path: Path, archive: zipfile.ZipFile, root: str, storage: _Storage) -> None:
    name = f"{root}/data/{storage.key}"
    if name not in archive.namelist():
        refuse(path, f"lacks its storage {name!r}")
    size, needed = archive.getinfo(name).file_size, storage.numel * storage.dtype.itemsize
    if size != needed:
        refuse(path, f"has {size} bytes in its storage {name!r}, where {needed} are claimed")


def _read_tensor(path: Path, archive: zipfile.ZipFile, root: str, entry: _TensorEntry) -> Tensor:
    if entry.storage.numel == 0:
        return torch.empty(entry.size, dtype=entry.storage.dtype)
    data = bytearray(_read_entry(path, archive, f"{root}/data/{entry.storage.key}"))
    flat = torch.frombuffer(data, dtype=entry.storage.dtype)
    return flat.as_strided(entry.size, entry.stride, entry.offset).contiguous()


# --- the pickle ------------------------------------------------------------------------------------------------------


class _Name:
    """Stand-in for an allowed function or value: `REDUCE` on it calls ``build``, nothing can be set on it."""

    __slots__ = ("_build", "text")
    text: str

    def __init__(self, text: str, build: Any = None) -> None:
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "_build", build)

    def __call__(self, *arguments: Any) -> Any:
        if self._build is None:
            raise ValueError(f"calls {self.text!r}")
        return self._build(*arguments)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise ValueError(f"sets {name!r} on {self.text!r}")

    def __setstate__(self, state: Any) -> NoReturn:
        raise ValueError(f"sets a state on {self.text!r}")


class _Config:
    """Stand-in for the cfg class: keeps the fields in a mapping of its own, where they are no attributes."""

    __slots__ = ("fields",)

    def __setstate__(self, state: Any) -> None:
        if type(state) is not dict or not all(type(key) is str for key in state):
            raise ValueError("gives its cfg a state that is no mapping of names")
        self.fields = dict(state)


class _OrderedDict(dict[Any, Any]):
    """Stand-in for OrderedDict; a state (torch's ``_metadata``) is dropped."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        if type(state) is not dict:
            raise ValueError("gives an OrderedDict a state that is no mapping")


@dataclass(frozen=True)
class _Storage:
    dtype: torch.dtype
    key: str
    numel: int

    def __setstate__(self, state: Any) -> NoReturn:
        raise ValueError("sets a state on a storage")


@dataclass(frozen=True)
class _TensorEntry:
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def __setstate__(self, state: Any) -> NoReturn:
        raise ValueError("sets a state on a tensor")


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**48


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, *rest: Any) -> _TensorEntry:
    """Check what `torch._utils._rebuild_tensor_v2` would be told, and write it down."""
    shapes = (size, stride)
    if (
        type(storage) is not _Storage
        or type(grad) is not bool
        or type(hooks) is not _OrderedDict
        or hooks
        or any(rest)
        or not all(type(shape) is tuple and len(shape) <= 8 and all(map(_count, shape)) for shape in shapes)
        or len(size) != len(stride)
        or not _count(offset)
    ):
        raise ValueError("describes a tensor in a form that is not known")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if 0 not in size else -1
    # A stride of 0 could claim more elements than there are bytes for.
    if last >= storage.numel or math.prod(size) > storage.numel:
        raise ValueError(
            f"describes a tensor of size {size}, stride {stride} and offset {offset} that reaches beyond its storage "
            f"{storage.key!r} of {storage.numel} elements"
        )
    return _TensorEntry(storage, offset, size, stride)


def _device(*arguments: Any) -> str:
    if not all(type(argument) in (str, int) for argument in arguments):
        raise ValueError("describes a device in a form that is not known")
    return ":".join(map(str, arguments))


def _ordered_dict(*arguments: Any) -> _OrderedDict:
    if arguments:
        raise ValueError("builds an OrderedDict in a form that is not known")
    return _OrderedDict()


def _allowed_names(config_class: tuple[str, str]) -> dict[tuple[str, str], Any]:
    """Every name that a file may mention, with its stand-in; made afresh for each file."""
    return {
        config_class: _Config,
        ("collections", "OrderedDict"): _Name("collections.OrderedDict", _ordered_dict),
        ("torch._utils", "_rebuild_tensor_v2"): _Name("torch._utils._rebuild_tensor_v2", _tensor),
        ("torch", "device"): _Name("torch.device", _device),
        **{("torch", name): _Name(f"torch.{name}") for name in (*STORAGES, *DTYPES)},
    }


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, config_class: tuple[str, str]) -> None:
        super().__init__(io.BytesIO(data), fix_imports=False)
        self._names = _allowed_names(config_class)

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in self._names:
            raise ValueError(f"names {_show(module_name, global_name)}, which no SAE checkpoint needs")
        return self._names[module_name, global_name]

    def persistent_load(self, pid: Any) -> _Storage:
        known = {id(self._names["torch", name]): dtype for name, dtype in STORAGES.items()}
        if (
            type(pid) is not tuple
            or len(pid) != 5
            or pid[0] != "storage"
            or id(pid[1]) not in known
            or type(pid[2]) is not str
            or not re.fullmatch(r"[0-9]{1,9}", pid[2])
            or type(pid[3]) is not str
            or not _count(pid[4])
        ):
            # No repr of a nested value: tuples of tuples of one tuple would take for ever.
            shown = pid[0] if type(pid) is tuple and pid else pid
            raise ValueError(
                f"has the foreign persistent id {shown[:100]!r}"
                if type(shown) is str
                else f"has a foreign persistent id of type {type(shown).__name__}"
            )
        return _Storage(known[id(pid[1])], pid[2], pid[4])


def _show(module: str, name: str) -> str:
    module = {"__builtin__": "builtins"}.get(module, module)
    return repr(f"{module}.{name}") + (f" (os.{name})" if module in ("posix", "nt") else "")


def _scan(data: bytes, config_class: tuple[str, str]) -> None:
    """Refuse by name what the file mentions outright, then any opcode that a checkpoint does not need.

    Some opcodes get past `find_class` (an EXT code that is in copyreg's cache) or claim memory (a memo index of 2^31).
    """
    opcodes = []
    for opcode, argument, _ in pickletools.genops(data):
        opcodes.append((opcode.name, argument))
        if len(opcodes) > PICKLE_OPCODES:
            raise ValueError(f"has a pickle of more than {PICKLE_OPCODES} opcodes")
    allowed = _allowed_names(config_class)
    for opcode, argument in opcodes:
        if opcode in ("GLOBAL", "INST"):
            module, _, name = str(argument).partition(" ")
            if (module, name) not in allowed:
                raise ValueError(f"names {_show(module, name)}, which no SAE checkpoint needs")
        if opcode == "PERSID":
            raise ValueError(f"has the foreign persistent id {str(argument)[:100]!r}")
        if opcode.startswith("EXT"):
            raise ValueError(f"has the extension code {argument} ({opcode})")
    for opcode, argument in opcodes:
        if not _OPCODES.fullmatch(opcode):
            raise ValueError(f"has the pickle opcode {opcode}")
        if opcode.endswith("BINPUT") and argument > len(opcodes):
            raise ValueError(f"has the memo index {argument}")
    if _reused_tuples(opcodes) > 16:
        raise ValueError("has tuples made of one tuple again and again")


def _reused_tuples(opcodes: list[tuple[str, Any]]) -> int:
    """How often a tuple is taken from the memo: doubled fifty times, its hash alone would take for ever."""
    tuples, memos, reused, before = set(), 0, 0, ""
    for opcode, argument in opcodes:
        if opcode == "MEMOIZE" or opcode.endswith("BINPUT"):
            if "TUPLE" in before:
                tuples.add(memos if opcode == "MEMOIZE" else argument)
            memos += 1
        reused += opcode.endswith("BINGET") and argument in tuples
        before = opcode
    return reused


def _unpickle(path: Path, data: bytes, config_class: tuple[str, str]) -> Any:
    try:
        _scan(data, config_class)
        return _Unpickler(data, config_class).load()
    except WeightsError:
        raise
    except Exception as problem:  # whatever a hostile pickle provokes, it is a refusal
        text = str(problem) if isinstance(problem, ValueError) and str(problem) else f"has a damaged pickle ({problem})"
        refuse(path, text if text.startswith(_VERBS) else f"has a damaged pickle ({text})")


_VERBS = ("names ", "has ", "calls ", "sets ", "gives ", "describes ", "builds ")


def _plain(path: Path, value: Any, budget: Iterator[int] | None = None) -> Any:
    """Turn stand-ins inside the cfg into JSON values; ``budget`` bounds their number (lists may share their parts)."""
    budget = iter(range(10_000)) if budget is None else budget
    if next(budget, None) is None:
        refuse(path, "has a cfg of more than 10,000 values")
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is _Name:
        return value.text.removeprefix("torch.")
    if type(value) is _Config:
        return {key: _plain(path, item, budget) for key, item in getattr(value, "fields", {}).items()}
    if isinstance(value, dict):
        return {str(key): _plain(path, item, budget) for key, item in value.items()}
    if type(value) in (list, tuple):
        return [_plain(path, item, budget) for item in value]
    refuse(path, f"has a value of type {type(value).__name__} in its cfg")
