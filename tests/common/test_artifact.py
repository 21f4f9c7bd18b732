from __future__ import annotations

import json
import math
import os

import pytest

from cytosae.common.artifact import SCHEMAS, is_current, read_artifact, recipe_of, write_artifact, write_file_artifact
from cytosae.common.errors import ArtifactError, NewerArtifactError
from cytosae.common.unfinished import displaced, sweep_below, unfinished


def make(path, text="hello", **changes):
    with write_artifact(path, "sae", config={"width": 8}, inputs={"tokens": "abc"}, **changes) as folder:
        (folder / "data.txt").write_text(text)


def test_record_says_what_was_made_from_what(tmp_path):
    make(tmp_path / "sae", details={"cells": 3})
    artifact = read_artifact(tmp_path / "sae", "sae")
    assert artifact.config == {"width": 8}
    assert artifact.inputs == {"tokens": "abc"}
    assert artifact.details == {"cells": 3}
    assert artifact.schema == SCHEMAS["sae"]
    assert artifact.recipe == recipe_of("sae", {"width": 8}, {"tokens": "abc"})
    assert is_current(tmp_path / "sae", "sae", artifact.recipe)


def test_equal_content_has_equal_fingerprint_wherever_it_lies(tmp_path):
    make(tmp_path / "a")
    make(tmp_path / "b")
    make(tmp_path / "c", text="other")
    prints = [read_artifact(tmp_path / name).fingerprint for name in "abc"]
    assert prints[0] == prints[1] != prints[2]


def test_failed_writer_leaves_nothing_and_keeps_the_older_artifact(tmp_path):
    make(tmp_path / "sae", text="old")
    with pytest.raises(RuntimeError), write_artifact(tmp_path / "sae", "sae") as folder:
        (folder / "data.txt").write_text("half")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["sae"]
    assert (tmp_path / "sae" / "data.txt").read_text() == "old"
    read_artifact(tmp_path / "sae", "sae")


def test_newer_artifact_replaces_the_older(tmp_path):
    make(tmp_path / "sae", text="old")
    make(tmp_path / "sae", text="new")
    assert (tmp_path / "sae" / "data.txt").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["sae"]


def test_what_a_killed_writer_left_is_swept_and_what_another_is_writing_is_not(tmp_path):
    kept = [".sae.0123abcd.partial", ".sae.more.partial", ".other.0123abcd.partial"]
    old = [".sae.89abcdef.partial", ".atlas.h5ad.89abcdef.partial.h5ad"]
    for name in kept + old:
        place = tmp_path / name
        if place.suffix == ".h5ad":
            place.write_bytes(b"half")
        else:
            place.mkdir()
            (place / "data.txt").write_text("half")
        if name in old or name == ".other.0123abcd.partial":
            for entry in (place, *place.rglob("*")):
                os.utime(entry, (0, 0))
    make(tmp_path / "sae")
    with write_file_artifact(tmp_path / "atlas.h5ad", "atlas") as temporary:
        temporary.write_bytes(b"whole")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"sae", "atlas.h5ad", "atlas.h5ad.artifact.json", *kept}


def test_who_holds_a_folder_sweeps_all_that_is_unfinished_in_it(tmp_path):
    make(tmp_path / "sae")
    work = tmp_path / "tokens" / ".smear.partial"  # work to be taken up again, not a leftover
    work.mkdir(parents=True)
    unfinished(work / "shard.safetensors").write_bytes(b"half")
    unfinished(tmp_path / "tokens" / "smear").mkdir()
    displaced(tmp_path / "sae").mkdir()
    unfinished(tmp_path / "atlas.h5ad").write_bytes(b"half")
    sweep_below(tmp_path)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert left == {"sae", "sae/data.txt", "sae/artifact.json", "tokens", "tokens/.smear.partial"}


def test_single_file_has_its_record_beside_it(tmp_path):
    file = tmp_path / "acevedo.h5ad"
    with write_file_artifact(file, "atlas", config={"k": 1}) as temporary:
        assert temporary.suffix == ".h5ad"
        temporary.write_bytes(b"x" * 10)
    artifact = read_artifact(file, "atlas")
    assert artifact.files["acevedo.h5ad"]["bytes"] == 10
    file.write_bytes(b"y" * 10)
    with pytest.raises(ArtifactError, match="differs from its recorded checksum"):
        read_artifact(file, "atlas")
    read_artifact(file, "atlas", verify=False)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda d: (d / "data.txt").unlink(), r"data\.txt is missing from a finished artifact; restore it or run"),
        (lambda d: (d / "data.txt").write_text("HELLO"), r"data\.txt differs from its recorded checksum; restore"),
        (lambda d: (d / "data.txt").write_text("longer text"), r"data\.txt differs from its recorded checksum"),
        (lambda d: (d / "artifact.json").unlink(), r"no finished cytosae artifact \(artifact\.json is missing\); run"),
        (lambda d: (d / "artifact.json").write_text("{"), r"artifact\.json cannot be read .*; delete"),
    ],
)
def test_damage_is_refused_in_a_sentence(tmp_path, damage, sentence):
    make(tmp_path / "sae")
    damage(tmp_path / "sae")
    with pytest.raises(ArtifactError, match=sentence):
        read_artifact(tmp_path / "sae", "sae")
    assert not is_current(tmp_path / "sae", "sae", "any")


def rewrite(folder, **changes):
    record = json.loads((folder / "artifact.json").read_text())
    record = {key: value for key, value in (record | changes).items() if value is not ...}
    (folder / "artifact.json").write_text(json.dumps(record))


NEEDED = {"kind": str, "schema": int, "package": str, "inputs": dict, "files": dict, "created": str, "details": dict}
WRONG = [
    *((name, value) for name in NEEDED for value in (..., None, True, [], ["a"])),
    *((name, 3) for name in NEEDED if NEEDED[name] is not int),
    *((name, "text") for name in NEEDED if NEEDED[name] is not str),
    *((name, {"a": None}) for name in NEEDED if name != "details"),
    *(
        ("files", {"data.txt": entry})
        for entry in ({"bytes": 5}, {"sha256": "", "bytes": "5"}, {"sha256": 1, "bytes": 5})
    ),
]


@pytest.mark.parametrize(("name", "wrong"), WRONG)
def test_a_record_is_checked_whole(tmp_path, name, wrong):
    make(tmp_path / "sae")
    rewrite(tmp_path / "sae", **{name: wrong})
    with pytest.raises(
        ArtifactError, match=rf"artifact\.json cannot be read \(artifact.*{name}.*\); delete .*sae and run"
    ):
        read_artifact(tmp_path / "sae", "sae")


def test_what_a_newer_version_added_to_a_record_does_no_harm(tmp_path):
    make(tmp_path / "sae")
    before = read_artifact(tmp_path / "sae")
    rewrite(tmp_path / "sae", licence="apache-2.0", path="elsewhere")
    assert read_artifact(tmp_path / "sae", "sae") == before


def test_not_a_number_in_a_configuration_is_null_and_still_current(tmp_path):
    with write_artifact(tmp_path / "sae", "sae", config={"rate": math.nan}, details={"loss": math.inf}) as folder:
        (folder / "data.txt").write_text("x")
    json.loads((tmp_path / "sae" / "artifact.json").read_text(), parse_constant=pytest.fail)
    assert is_current(tmp_path / "sae", "sae", recipe_of("sae", {"rate": math.nan}, {}))


def test_what_a_newer_version_wrote_is_never_taken_for_something_to_replace(tmp_path):
    make(tmp_path / "sae")
    recipe = read_artifact(tmp_path / "sae").recipe
    rewrite(tmp_path / "sae", schema=99, files=..., package=...)  # whatever else it changed
    with pytest.raises(NewerArtifactError, match=r"in schema 99 of 'sae', newer than this version reads \(1\); update"):
        is_current(tmp_path / "sae", "sae", recipe)


def test_foreign_kind_and_newer_schema_are_refused(tmp_path):
    make(tmp_path / "sae")
    with pytest.raises(ArtifactError, match="holds 'sae', where 'tokens' is needed"):
        read_artifact(tmp_path / "sae", "tokens")
    record = tmp_path / "sae" / "artifact.json"
    data = json.loads(record.read_text())
    record.write_text(json.dumps({**data, "schema": 99}))
    with pytest.raises(ArtifactError, match="newer than this version reads .*; update cytosae"):
        read_artifact(tmp_path / "sae", "sae")
