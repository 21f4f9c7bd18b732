"""``cytosae model fetch | list | card``: what comes is what is meant, found by its name, and told with its failures."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
import timm
import torch
from cli.conftest import run
from common.bad_server import BadServer, bad_server
from huggingface_hub import ModelCard

import cytosae.backbones as backbones
from cytosae.backbones import load_backbone, named_backbones
from cytosae.common.artifact import read_artifact
from cytosae.common.remote_files import RemoteFile
from cytosae.sae.exchange import published_saes


def saved(state: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def served() -> Iterator[BadServer]:
    with bad_server() as server:
        model = timm.create_model("test_vit", num_classes=0, img_size=224)
        teacher = {f"backbone.{key}": value for key, value in model.state_dict().items()}
        server.content["DinoBloom-B.pth"] = saved({"teacher": teacher})
        server.content["other.pth"] = saved({"teacher": {"backbone.cls_token": torch.zeros(1, 1, 64)}})
        yield server


@pytest.fixture
def server(served: BadServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BadServer:
    """DinoBloom-B as it would be if it were small and lay on this machine."""
    monkeypatch.setenv("CYTOSAE_CACHE", str(tmp_path / "cache"))
    served.asked.clear()
    entry = replace(backbones.REGISTRY["dinobloom-b"], timm_model="test_vit", record=served.url("plain/record"))
    known = MappingProxyType({**backbones.REGISTRY, entry.name: entry})
    monkeypatch.setattr(backbones, "REGISTRY", known)
    monkeypatch.setattr(named_backbones, "REGISTRY", known)
    list_files(served, "DinoBloom-B.pth")
    return served


def list_files(server: BadServer, name: str) -> None:
    content = server.content[name]
    md5 = f"md5:{hashlib.md5(content).hexdigest()}"
    entry = {
        "key": "DinoBloom-B.pth",
        "size": len(content),
        "checksum": md5,
        "links": {"self": server.url(f"cut/{name}")},
    }
    server.content["record"] = json.dumps({"files": [entry]}).encode()


def test_a_backbone_is_fetched_checked_and_found_by_its_name(server, capfd, tmp_path, monkeypatch):
    assert run("model", "fetch", "dinobloom-b") == 2
    assert "Apache-2.0" in capfd.readouterr().out
    assert run("model", "fetch", "dinobloom-b", "--yes") == 0
    assert "every key and shape is its own" in capfd.readouterr().out
    found = load_backbone("dinobloom-b")
    assert found.weights_hash == hashlib.sha256(server.content["DinoBloom-B.pth"]).hexdigest()
    monkeypatch.setenv("CYTOSAE_OFFLINE", "1")
    assert run("model", "fetch", "dinobloom-b") == 0


def test_weights_of_another_model_are_refused_key_by_key(server, capfd):
    list_files(server, "other.pth")
    assert run("model", "fetch", "dinobloom-b", "--yes") == 1
    assert "DinoBloom-B.pth do not fit" in capfd.readouterr().err


def test_the_list_says_source_licence_checksum_and_what_is_here(capfd, tmp_path, monkeypatch):
    monkeypatch.setenv("CYTOSAE_CACHE", str(tmp_path))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "pytorch_model_l.bin").touch()
    assert run("model", "list", "--json") == 0
    document = json.loads(capfd.readouterr().out)
    by_name = {backbone["name"]: backbone for backbone in document["backbones"]}
    assert by_name["dinobloom-l"]["here"] == str(tmp_path / "weights" / "pytorch_model_l.bin")
    assert by_name["dinobloom-b"]["here"] == ""
    assert by_name["dinobloom-s"]["sha256"]["DinoBloom-S.pth"].startswith("c2f7990b")
    assert by_name["dinobloom-g"]["hub"] == "1aurent/vit_giant_patch14_224.dinobloom"
    assert all(backbone["licence"] and backbone["weights"] for backbone in document["backbones"])
    assert document["saes"][0]["d_sae"] == 49_152


@pytest.fixture
def small_sae(server, shared_reference, monkeypatch):
    """The published SAE as it would be if it were the small one of the reference."""
    server.content["sae.pt"] = (shared_reference / "official_sae_small" / "official_checkpoint.pt").read_bytes()
    entry = published_saes.SAES["cytosae"]
    small = replace(entry, file=RemoteFile("sae.pt", server.url("cut/sae.pt")), d_in=48, d_sae=384)
    monkeypatch.setattr(published_saes, "SAES", {"cytosae": small})
    return small


def test_the_published_sae_is_fetched_pinned_and_converted(small_sae, server, capfd, tmp_path, monkeypatch):
    assert run("model", "fetch", "cytosae", tmp_path / "sae", "--yes") == 0
    told = " ".join(capfd.readouterr().out.split())
    assert "No checksum is published of sae.pt: what came is pinned" in told
    record = read_artifact(tmp_path / "sae", "sae")
    assert record.details["source_sha256"] == hashlib.sha256(server.content["sae.pt"]).hexdigest()
    assert record.details["backbone"] == "dinobloom-b"
    server.asked.clear()
    assert run("model", "fetch", "cytosae", tmp_path / "sae") == 0
    assert server.asked.total() == 0
    wider = replace(small_sae, d_sae=385)
    monkeypatch.setattr(published_saes, "SAES", {"cytosae": wider})
    assert run("model", "fetch", "cytosae", tmp_path / "other", "--yes") == 1
    assert "(48, 384) instead of (48, 385), so it is not cytosae" in capfd.readouterr().err
    assert not (tmp_path / "other").exists()


def test_a_name_that_nobody_publishes_and_weights_that_come_along_are_sentences(capfd, tmp_path, monkeypatch):
    monkeypatch.setenv("CYTOSAE_CACHE", str(tmp_path))
    assert run("model", "fetch", "cytosee") == 2
    assert "There is no published SAE 'cytosee'; take one of cytosae" in capfd.readouterr().err
    assert run("model", "fetch", "tiny") == 2
    assert "come with cytosae; there is nothing to fetch" in capfd.readouterr().err
    monkeypatch.setenv("CYTOSAE_OFFLINE", "1")
    assert run("model", "fetch", "dinobloom-s", "--yes") == 1
    assert "CYTOSAE_OFFLINE forbids downloads" in capfd.readouterr().err


def test_the_card_tells_data_recipe_controls_failures_and_use(finished, capfd, tmp_path):
    assert run("model", "card", finished / "sae", tmp_path / "README.md", "--licence", "cc-by-4.0") == 0
    card = (tmp_path / "README.md").read_text()
    head = ModelCard(card).data
    assert head.license == "cc-by-4.0"
    assert head.library_name == "cytosae"
    for words in (
        "| images of one's own | training | 144 | 12 | not known; ask the authors | none |",
        "| sparsity.k | 8 |",
        "| level: block | 7 |",
        "the mean token of each position alone",
        "random-weight SAE",
        "(12 patients)",
        "The bundled backbone tiny makes trials possible",
        "is not shown to need these concepts: “random-weight SAE",
        "No expert has looked at the concepts",
        "not for diagnosis",
    ):
        assert words in card, words
    assert "patients/" not in card
    assert str(finished) not in card


def test_a_card_of_an_sae_alone_says_what_is_missing(finished, capfd, tmp_path):
    alone = shutil.copytree(finished / "sae", tmp_path / "alone")
    assert run("model", "card", alone, "--json") == 0
    card = json.loads(capfd.readouterr().out)["card"]
    assert "its data sets and their licences are not known here" in card
    assert "No control was measured with this SAE" in card
    assert "Not looked for: the study is not at hand." in card
