"""Hostile and damaged checkpoint files: refused with the name in the message, and nothing in them is executed."""

from __future__ import annotations

import builtins
import contextlib
import copyreg
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cytosae.common.errors import WeightsError
from cytosae.sae.exchange.published import CONFIG_CLASS
from cytosae.sae.exchange.torch_archive import read_torch_archive

MARK, TUPLE, STOP = b"(", b"t", b"."


def glob(module, name):
    return f"c{module}\n{name}\n".encode()


def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def short(value):
    return b"\x8c" + bytes([len(value)]) + value.encode()


def integer(value):
    return b"J" + struct.pack("<i", value)


def storage(key="0", numel=6, kind=("torch", "FloatStorage")):
    return MARK + text("storage") + glob(*kind) + text(key) + text("cpu") + integer(numel) + TUPLE + b"Q"


def shape(*values):
    return MARK + b"".join(map(integer, values)) + TUPLE


EMPTY_HOOKS = glob("collections", "OrderedDict") + b")R"


def tensor(persistent=None, offset=0, size=(2, 3), stride=(3, 1), grad=b"\x89", hooks=EMPTY_HOOKS):
    body = (storage() if persistent is None else persistent) + integer(offset) + shape(*size) + shape(*stride)
    return glob("torch._utils", "_rebuild_tensor_v2") + MARK + body + grad + hooks + TUPLE + b"R"


def checkpoint(cfg=b"}", entry=None, name="W_enc"):
    entry = tensor() if entry is None else entry
    return b"\x80\x02}(" + text("cfg") + cfg + text("state_dict") + b"}" + text(name) + entry + b"su" + STOP


def config(value=b"N"):
    return glob(*CONFIG_CLASS) + b")\x81}" + text("d_in") + value + b"sb"


def write(path, data, entries=None, *, root="archive", compression=zipfile.ZIP_STORED):
    entries = {f"{root}/data/0": np.arange(6, dtype="<f4").tobytes()} if entries is None else entries
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(f"{root}/data.pkl", data)
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def canary(tmp_path):
    """A path that a hostile pickle would create."""
    return tmp_path / "canary"


def refused(path, canary, *words):
    with pytest.raises(WeightsError) as caught:
        read_torch_archive(path, CONFIG_CLASS)
    message = str(caught.value)
    assert str(path) in message
    assert message.endswith(".")
    assert "\n" not in message
    for word in words:
        assert word in message
    assert not canary.exists()


class Call:
    """Pickles as a call of ``function`` with ``arguments``."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_the_handwritten_checkpoint_that_the_attacks_vary_is_itself_readable(tmp_path):
    path = write(tmp_path / "good.pt", checkpoint(config(integer(3))))
    cfg, weights = read_torch_archive(path, CONFIG_CLASS)
    assert cfg == {"d_in": 3}
    np.testing.assert_array_equal(weights["W_enc"], np.arange(6, dtype=np.float32).reshape(2, 3))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("function", [os.system, builtins.eval], ids=["os.system", "builtins.eval"])
def test_a_call_is_refused_by_name_in_every_protocol(tmp_path, canary, protocol, function):
    command = f"touch {canary}" if function is os.system else f"open({str(canary)!r}, 'w')"
    data = pickle.dumps({"cfg": Call(function, command), "state_dict": {}}, protocol=protocol)
    name = "os.system" if function is os.system else "builtins.eval"
    refused(write(tmp_path / "a.pt", data), canary, name)


def test_a_call_nested_in_the_arguments_of_an_allowed_one_is_refused(tmp_path, canary):
    inner = glob("os", "system") + MARK + text(f"touch {canary}") + TUPLE + b"R"
    for data in (
        checkpoint(entry=tensor(hooks=inner)),
        checkpoint(cfg=glob("collections", "OrderedDict") + MARK + inner + TUPLE + b"R"),
        checkpoint(cfg=config(inner)),
        checkpoint(cfg=glob("torch", "device") + MARK + inner + TUPLE + b"R"),
    ):
        refused(write(tmp_path / "a.pt", data), canary, "os.system")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch.hub", "load"),
        ("torch", "load"),
        ("torch", "hub.load"),
        ("torch", "FloatStorage.__class__"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("torch._utils", "_rebuild_parameter_with_state"),
        ("collections", "OrderedDict.__init__.__globals__"),
        ("collections", "namedtuple"),
        ("builtins", "getattr"),
        ("__builtin__", "getattr"),
        ("src.sae_training.config", "Other"),
        ("src.sae_training", "config.ViTSAERunnerConfig"),
        ("posix", "system"),
        ("runpy", "_run_code"),
    ],
)
@pytest.mark.parametrize("form", ["GLOBAL", "STACK_GLOBAL"])
def test_neighbours_of_allowed_names_and_dotted_names_are_refused(tmp_path, canary, module, name, form):
    named = glob(module, name) if form == "GLOBAL" else short(module) + short(name) + b"\x93"
    refused(write(tmp_path / "a.pt", checkpoint(cfg=named)), canary, module.replace("__builtin__", "builtins"), name)


def test_a_dotted_stack_global_does_not_reach_os_system(tmp_path, canary):
    data = b"\x80\x04" + short("os") + short("path.os.system") + b"\x93" + short(f"touch {canary}") + b"\x85R."
    refused(write(tmp_path / "a.pt", data), canary, "os.path.os.system")


def test_names_made_of_pieces_at_run_time_are_refused(tmp_path, canary):
    # the module's name comes from the memo, where a scan of the bytes alone would not see it
    data = b"\x80\x04" + short("os") + b"\x940" + b"h\x00" + short("system") + b"\x93" + short("x") + b"\x85R."
    refused(write(tmp_path / "a.pt", data), canary, "POP")
    data = b"\x80\x04}" + short("os") + b"\x94h\x00s" + b"h\x00" + short("system") + b"\x93" + short("x") + b"\x85R."
    refused(write(tmp_path / "a.pt", data), canary, "os.system")


def test_getattr_through_build_on_an_allowed_name_is_refused(tmp_path, canary):
    state = b"N}" + text("__call__") + glob("torch", "device") + b"s\x86b"
    for target in (glob("torch", "device"), glob(*CONFIG_CLASS), glob("torch._utils", "_rebuild_tensor_v2"), storage()):
        refused(write(tmp_path / "a.pt", checkpoint(cfg=target + state)), canary)
    # and nothing was left behind by the attempt
    read_torch_archive(write(tmp_path / "good.pt", checkpoint(config(integer(3)))), CONFIG_CLASS)


def test_a_state_named_like_a_method_stays_a_value(tmp_path):
    cfg = glob(*CONFIG_CLASS) + b")\x81}(" + text("__setstate__") + text("x") + text("__class__") + text("y") + b"ub"
    plain, _ = read_torch_archive(write(tmp_path / "a.pt", checkpoint(cfg=cfg)), CONFIG_CLASS)
    assert plain == {"__setstate__": "x", "__class__": "y"}


@pytest.mark.parametrize("opcode", [b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00"], ids=str)
def test_extension_codes_are_refused_even_when_cached(tmp_path, canary, opcode):
    copyreg.add_extension("os", "system", 1)
    try:
        pickle.loads(b"\x80\x02\x82\x01.")  # now in copyreg's cache, past find_class
        data = b"\x80\x02" + opcode + text(f"touch {canary}") + b"\x85R."
        refused(write(tmp_path / "a.pt", data), canary, "extension code 1")
    finally:
        copyreg.remove_extension("os", "system", 1)


@pytest.mark.parametrize(
    ("opcodes", "word"),
    [
        (b"(ios\nsystem\n", "os.system"),  # INST
        (b"(" + glob("os", "system") + b"o", "os.system"),  # OBJ
        (b")" + glob("os", "system") + b")}\x92", "os.system"),  # NEWOBJ_EX
        (glob(*CONFIG_CLASS) + b")}\x92", "NEWOBJ_EX"),
        (b"\x97", "NEXT_BUFFER"),
        (b"\x96" + struct.pack("<Q", 0), "BYTEARRAY8"),
        (b"N" + b"r" + struct.pack("<I", 2**31), "memo index"),
    ],
)
def test_opcodes_that_no_checkpoint_needs_are_refused(tmp_path, canary, opcodes, word):
    refused(write(tmp_path / "a.pt", checkpoint(cfg=opcodes)), canary, word)


@pytest.mark.parametrize(
    "pid",
    [
        b"Pfile:///etc/passwd\n",
        text("module:os") + b"Q",
        MARK + text("module") + text("os") + text("0") + text("cpu") + integer(6) + TUPLE + b"Q",
        MARK + text("storage") + text("FloatStorage") + text("0") + text("cpu") + integer(6) + TUPLE + b"Q",
        MARK + text("storage") + glob("torch", "device") + text("0") + text("cpu") + integer(6) + TUPLE + b"Q",
        storage(key="../../secret"),
        storage(key="0", numel=-6),
        MARK + text("storage") + glob("torch", "FloatStorage") + text("0") + text("cpu") + b"\x88" + TUPLE + b"Q",
        integer(7) + b"Q",
    ],
    ids=["text", "string", "module", "plain type", "device as type", "path key", "negative", "bool", "number"],
)
def test_a_foreign_persistent_id_is_refused(tmp_path, canary, pid):
    refused(write(tmp_path / "a.pt", checkpoint(entry=tensor(pid))), canary, "persistent id")


@pytest.mark.parametrize(
    "name",
    [
        "../outside",
        "archive/../../outside",
        "/etc/outside",
        "archive\\..\\outside",
        "C:outside/x",
        "top-level",
        "a/\x1b[2Jb",
    ],
)
def test_a_zip_with_names_that_leave_its_folder_is_refused(tmp_path, canary, name):
    entries = {"archive/data/0": bytes(24), name: b"x"}
    refused(write(tmp_path / "a.pt", checkpoint(), entries), canary, "unsafe name")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt"]


def test_a_truncated_file_is_refused_at_any_length(tmp_path, canary):
    whole = write(tmp_path / "whole.pt", checkpoint()).read_bytes()
    path = tmp_path / "cut.pt"
    for length in (0, 1, 10, len(whole) // 2, len(whole) - 30, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(path, canary, "download it again")


def test_any_damaged_byte_is_a_refusal_or_harmless(tmp_path, canary):
    whole = write(tmp_path / "whole.pt", checkpoint(config(integer(3)))).read_bytes()
    random = np.random.default_rng(0)
    path = tmp_path / "damaged.pt"
    for position in random.choice(len(whole), size=150, replace=False):
        damaged = bytearray(whole)
        damaged[position] ^= int(random.integers(1, 256))
        path.write_bytes(damaged)
        with contextlib.suppress(WeightsError):
            read_torch_archive(path, CONFIG_CLASS)
    assert not canary.exists()


def test_a_pickle_cut_short_is_refused(tmp_path, canary):
    data = checkpoint(config())
    for length in range(0, len(data) - 1, 7):
        refused(write(tmp_path / "a.pt", data[:length]), canary)


def test_the_legacy_format_is_refused_with_the_way_out(tmp_path, canary):
    path = tmp_path / "legacy.pt"
    path.write_bytes(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.")
    refused(path, canary, "legacy format", "zip format")


def test_a_bare_pickle_is_refused(tmp_path, canary):
    path = tmp_path / "bare.pt"
    path.write_bytes(pickle.dumps(Call(os.system, f"touch {canary}")))
    refused(path, canary)


def test_a_missing_file_is_named(tmp_path, canary):
    refused(tmp_path / "absent.pt", canary, "does not exist")


def test_compressed_and_repeated_entries_are_refused(tmp_path, canary):
    bomb = {"archive/data/0": bytes(10_000_000)}
    refused(write(tmp_path / "a.pt", checkpoint(), bomb, compression=zipfile.ZIP_DEFLATED), canary, "compressed")
    path = write(tmp_path / "b.pt", checkpoint())
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("archive/data.pkl", b"other")
    refused(path, canary, "repeated")


def test_entries_that_claim_more_bytes_than_the_file_has_are_refused(tmp_path, canary):
    path = write(tmp_path / "a.pt", checkpoint())
    data = bytearray(path.read_bytes())
    central = data.rindex(b"PK\x01\x02")  # of archive/data/0, the last entry
    data[central + 20 : central + 28] = struct.pack("<II", 4_000_000_000, 4_000_000_000)
    path.write_bytes(data)
    refused(path, canary, "4000000")


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        (tensor(storage(numel=7), size=(7,), stride=(1,)), "24 bytes"),
        (tensor(storage(numel=5), size=(5,), stride=(1,)), "24 bytes"),
        (tensor(storage(key="1")), "lacks its storage"),
        (tensor(size=(2, 4), stride=(4, 1)), "beyond its storage"),
        (tensor(offset=1), "beyond its storage"),
        (tensor(stride=(100, 1)), "beyond its storage"),
        (tensor(stride=(0, 0), size=(1000, 1000)), "beyond its storage"),
        (tensor(offset=-1), "not known"),
        (tensor(stride=(-3, 1)), "not known"),
        (tensor(size=(2,)), "not known"),
        (tensor(hooks=b"N"), "not known"),
        (tensor(grad=b"N"), "not known"),
        (glob("torch._utils", "_rebuild_tensor_v2") + b")R", ""),
        (glob("torch", "float32") + b")R", "torch.float32"),
        (text("no tensor"), "no tensor"),
    ],
)
def test_tensors_that_reach_beyond_their_bytes_are_refused(tmp_path, canary, entry, word):
    refused(write(tmp_path / "a.pt", checkpoint(entry=entry)), canary, word)


def test_values_that_grow_by_sharing_are_refused_at_once(tmp_path, canary):
    doubled = b")q\x00" + b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(60))
    refused(write(tmp_path / "a.pt", checkpoint(cfg=b"}" + doubled + b"Ns")), canary, "again and again")
    lists = b"]q\x00" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(60))
    cfg = b"}" + text("x") + MARK + lists + TUPLE + b"s"
    refused(write(tmp_path / "b.pt", checkpoint(cfg=cfg)), canary, "10,000 values")


def test_a_pickle_of_too_many_opcodes_or_bytes_is_refused(tmp_path, canary):
    refused(write(tmp_path / "a.pt", b"\x80\x02" + b"N" * 60_000 + b"."), canary, "opcodes")
    refused(write(tmp_path / "b.pt", checkpoint(text("x" * 5_000_000))), canary, "data.pkl")


def test_a_checkpoint_without_its_two_parts_is_refused(tmp_path: Path, canary):
    refused(write(tmp_path / "a.pt", b"\x80\x02}."), canary, "'cfg'")
    refused(write(tmp_path / "b.pt", b"\x80\x02N."), canary, "'cfg'")
