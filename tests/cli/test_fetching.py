"""``cytosae data fetch``: shown before it starts, confirmed, fetched, unpacked, told; by hand where no program may."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli.conftest import run
from common.bad_server import BadServer, bad_server
from PIL import Image

from cytosae.cells import datasets, published_datasets
from cytosae.common.remote_files import RemoteFile


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def served() -> Iterator[BadServer]:
    with bad_server() as server:
        yield server


@pytest.fixture
def server(served: BadServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BadServer:
    """Data sets as they would be if they lay on this machine: MLL23 by record, WBCAtt without checksums."""
    monkeypatch.setenv("CYTOSAE_CACHE", str(tmp_path / "cache"))
    served.asked.clear()
    entries = []
    for name in ("basophil.zip", "monocyte.zip"):
        served.content[name] = zipped(f"{name[:-4]}/1.TIF", f"__MACOSX/{name[:-4]}/._1.TIF")
        md5 = hashlib.md5(served.content[name]).hexdigest()
        link = {"self": served.url(f"cut/{name}")}
        entries.append({"key": name, "size": len(served.content[name]), "checksum": f"md5:{md5}", "links": link})
    served.content["record"] = json.dumps({"files": entries}).encode()
    served.content["train.csv"] = b"img_name,label\n"
    known = published_datasets()
    table = RemoteFile("train.csv", served.url("plain/train.csv"))
    changed = {
        "mll23": replace(known["mll23"], record=served.url("plain/record")),
        "wbcatt": replace(known["wbcatt"], files=(table,)),
    }
    monkeypatch.setattr(datasets, "published_datasets", lambda: {**known, **changed})
    return served


def test_what_is_known_of_each_data_set_leads_somewhere():
    for dataset in published_datasets().values():
        assert dataset.fetchable != bool(dataset.steps), dataset.name
        assert all(file.url.startswith("https://") for file in dataset.files)
        assert all(file.checksum is None or file.checksum.startswith(("md5:", "sha256:")) for file in dataset.files)


def test_nothing_starts_without_a_yes(server, capfd, tmp_path):
    assert run("data", "fetch", "mll23") == 2
    told = capfd.readouterr()
    assert "basophil.zip" in told.out
    assert "licence: see the Zenodo record" in told.out
    assert "are free" in told.out
    assert "there is nobody to ask; say --yes" in told.err
    assert list(server.asked) == ["/plain/record"]
    assert not (tmp_path / "cache").exists()


def test_a_record_is_fetched_unpacked_and_not_fetched_again(server, capfd, tmp_path, monkeypatch):
    place = tmp_path / "cache" / "data" / "mll23"
    assert run("data", "fetch", "MLL23", "--only", "basophil.zip", "--yes") == 0
    assert f"MLL23 is at {place}; check it with: cytosae data check mll23" in " ".join(capfd.readouterr().out.split())
    assert not (place / "monocyte").exists()
    assert run("data", "fetch", "mll23", "--yes", "--json") == 0
    files = json.loads(capfd.readouterr().out)["files"]
    assert [(place / name[:-4] / "1.TIF").is_file() for name in files] == [True, True]
    assert sorted(path.name for path in place.iterdir() if path.name[0] != ".") == [
        "basophil",
        "fetched.json",
        "monocyte",
    ]
    assert files["basophil.zip"]["sha256"] == hashlib.sha256(server.content["basophil.zip"]).hexdigest()
    monkeypatch.setenv("CYTOSAE_OFFLINE", "1")
    server.asked.clear()
    assert run("data", "fetch", "mll23") == 0
    assert server.asked.total() == 0


def test_files_without_a_published_checksum_are_pinned_and_that_is_said(server, capfd, tmp_path):
    assert run("data", "fetch", "wbcatt", tmp_path / "here", "--yes") == 0
    told = " ".join(capfd.readouterr().out.split())
    assert "none published: pinned now" in told
    assert "No checksum is published of train.csv: what came is pinned by its SHA-256" in told
    assert (tmp_path / "here" / "train.csv").read_bytes() == b"img_name,label\n"


def test_wrong_calls_and_the_network_forbidden_are_sentences(server, capfd, monkeypatch):
    assert run("data", "fetch", "mll23", "--only", "platelet.zip") == 2
    assert "MLL23 has no file 'platelet.zip'; its files are basophil.zip, monocyte.zip." in capfd.readouterr().err
    monkeypatch.setenv("CYTOSAE_OFFLINE", "1")
    assert run("data", "fetch", "mll23", "--yes") == 1
    assert "CYTOSAE_OFFLINE forbids downloads" in capfd.readouterr().err


def test_what_does_not_fit_on_the_disk_is_not_begun(server, capfd, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _path: type("Usage", (), {"free": 10}))
    assert run("data", "fetch", "mll23", "--yes") == 1
    assert "do not fit into" in capfd.readouterr().err
    assert list(server.asked) == ["/plain/record"]


def test_by_hand_the_steps_are_told_and_then_what_came_is_checked(capfd, tmp_path):
    place = tmp_path / "matek"
    assert run("data", "fetch", "matek19", place) == 1
    told = " ".join(capfd.readouterr().out.split())
    assert "1. Open https://www.cancerimagingarchive.net" in told
    assert f"cytosae data fetch matek19 {place}" in told
    (place / "BAS").mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(place / "BAS" / "BAS_0001.tiff")
    assert run("data", "fetch", "matek19", place) == 1
    assert "1 of 79 files of BAS: 78 missing" in " ".join(capfd.readouterr().out.split())
