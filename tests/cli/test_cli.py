from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from cytosae.cli import doctor, main
from cytosae.cli.commands import app


def run(*words: object) -> int:
    return main([str(word) for word in words])


QUICK = ["--sae.expansion", 2, "--sae.sparsity.k", 8, "--sae.train.steps", 30, "--sae.train.batch-tokens", 512]
QUICK += ["--extract.workers", 0, "--report.concepts", 4, "--localisation.bootstrap", 50]


def test_run_goes_the_whole_way_and_prints_json(smear, tmp_path, capfd):
    assert run("run", smear, "--study", tmp_path / "study", "--json", *QUICK) == 0
    document = json.loads(capfd.readouterr().out)
    steps = [step["step"] for step in document["steps"]]
    assert steps == [
        "cells smear",
        "tokens smear",
        "sae",
        "atlas smear",
        "random latents smear",
        "localisation",
        "report",
    ]
    assert Path(document["report"]).stat().st_size > 50_000
    assert run("run", "--study", tmp_path / "study") == 0
    text = capfd.readouterr().out
    assert text.count("up to date") == 7
    assert "report.html; open it in a browser" in text.replace("\n", "")


def test_steps_can_be_taken_one_by_one(smear, tmp_path, capfd):
    study = tmp_path / "study"
    assert run("extract", smear, "--study", study, "--extract.workers", 0) == 0
    assert run("train", "--study", study, *QUICK[:8]) == 0
    assert run("atlas", "--study", study, "--atlas.reference-cells", 5) == 0
    assert run("report", "--study", study, "--report.concepts", 3) == 0
    assert run("train", "--study", study, "--sweep", "k=4,8", "--json") == 0
    out = capfd.readouterr().out
    table = json.loads(out[out.index("{") :])["sweep"]
    assert [row["name"] for row in table] == ["k4", "k8"]
    assert run("doctor", "--study", study) == 0
    assert "whole" in capfd.readouterr().out


def test_explain_writes_a_page_and_tells_the_concepts(study_of_smear, smear, tmp_path, capfd):
    image = sorted((smear / "images").rglob("*.png"))[5]
    page = tmp_path / "page.html"
    assert run("explain", image, "--study", study_of_smear, "--out", page, "--json") == 0
    document = json.loads(capfd.readouterr().out)
    assert len(document["concepts"]) == 12
    grid = document["maps"][str(document["concepts"][0]["latent"])]
    assert (len(grid), len(grid[0])) == (16, 16)
    assert document["similar"][0]["similarity"] == pytest.approx(1, abs=1e-3)
    html = page.read_text(encoding="utf-8")
    assert html.count("data:image/webp") > 12
    assert "http" not in html.replace("http-equiv", "")


def test_doctor_names_a_damaged_artifact(study_of_smear, tmp_path, capfd):
    study = shutil.copytree(study_of_smear, tmp_path / "study")
    (study / "sae" / "metrics.csv").write_text("changed")
    assert run("doctor", "--study", study) == 1
    assert "differs from its recorded checksum" in " ".join(capfd.readouterr().out.split())


def folder(path: Path, **files: bytes) -> Path:
    path.mkdir()
    for name, content in files.items():
        (path / name.replace("_dot_", ".")).write_bytes(content)
    return path


def png(path: Path) -> bytes:
    Image.new("RGB", (20, 20), (200, 100, 150)).save(path / "x.png")
    data = (path / "x.png").read_bytes()
    (path / "x.png").unlink()
    return data


BAD = {
    "no such folder": (
        lambda p: ["run", p / "nowhere", "--study", p / "s"],
        1,
        r"nowhere does not exist; give a folder",
    ),
    "an empty folder": (lambda p: ["run", folder(p / "empty"), "--study", p / "s"], 1, r"empty holds no images; give"),
    "only broken images": (
        lambda p: ["run", folder(p / "broken", a_dot_png=b"x", b_dot_jpg=b""), "--study", p / "s"],
        1,
        r"a\.png",
    ),
    "a manifest without images": (
        lambda p: ["run", folder(p / "m", manifest_dot_csv=b"label\nx\n"), "--study", p / "s"],
        1,
        r"manifest\.csv .*image",
    ),
    "a file that is no manifest": (
        lambda p: ["run", folder(p / "t", notes_dot_txt=b"hello") / "notes.txt", "--study", p / "s"],
        1,
        r"notes\.txt",
    ),
    "an unknown backbone": (
        lambda p: ["run", folder(p / "i", a_dot_png=png(p)), "--study", p / "s", "--backbone.name", "dinobloom-x"],
        2,
        r"dinobloom-x",
    ),
    "weights that are missing": (
        lambda p: ["run", folder(p / "i", a_dot_png=png(p)), "--study", p / "s", "--backbone.name", "dinobloom-b"],
        1,
        r"DinoBloom-B\.pth",
    ),
    "an unknown recipe": (lambda p: ["run", p, "--study", p / "s", "--recipe", "best"], 2, r"no recipe 'best'; choose"),
    "an unknown option": (lambda p: ["run", p, "--study", p / "s", "--sae.sparcity.k", "3"], 2, r"Unknown option"),
    "a value of the wrong type": (
        lambda p: ["run", p, "--study", p / "s", "--sae.expansion", "wide"],
        2,
        r"sae\.expansion: unable to convert \"wide\" into int",
    ),
    "a field of another variant": (
        lambda p: ["run", p, "--study", p / "s", "--sae.sparsity.l1-coefficient", "3"],
        2,
        r"sae\.sparsity has no field 'l1_coefficient'; the fields are: .*k",
    ),
    "no study": (lambda p: ["train", "--study", p / "s"], 1, r"s is no study \(study\.toml is missing\); begin one"),
    "no images for a new study": (lambda p: ["run", "--study", p / "s"], 2, r"no images are given; name a folder"),
    "a configuration file that is not there": (
        lambda p: ["run", p, "--study", p / "s", "--config", p / "c.toml"],
        2,
        r"c\.toml does not exist; give the path of a TOML file",
    ),
    "an image to explain that is not one": (
        lambda p: ["explain", folder(p / "e", a_dot_png=b"zz") / "a.png", "--study", p / "finished"],
        1,
        r"a\.png",
    ),
    "a malformed sweep": (
        lambda p: ["train", "--study", p / "finished", "--sweep", "k=a,b"],
        2,
        r"--sweep 'k=a,b' is not understood; write it as field=value,value",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_gives_one_sentence_and_leaves_nothing(kind, tmp_path, study_of_smear, capfd):
    make, code, sentence = BAD[kind]
    (tmp_path / "finished").symlink_to(study_of_smear)
    words = make(tmp_path)
    before = sorted(study_of_smear.rglob("*"))
    assert run(*words) == code
    err = capfd.readouterr().err
    assert len(err.strip().splitlines()) == 1, err
    assert err.startswith("cytosae: ")
    import re

    assert re.search(sentence, err), err
    assert not (tmp_path / "s").exists()
    assert sorted(study_of_smear.rglob("*")) == before


def test_unexpected_errors_are_one_line_unless_debug_is_given(study_of_smear, monkeypatch, capfd):
    from cytosae.pipeline import Study

    def fail(self: Study, *_: object) -> None:
        raise RuntimeError("cosmic ray")

    monkeypatch.setattr(Study, "write_report", fail)
    assert run("report", "--study", study_of_smear) == 1
    assert "RuntimeError: cosmic ray (unexpected; run again with --debug" in capfd.readouterr().err
    assert run("report", "--study", study_of_smear, "--debug") == 1
    assert "Traceback" in capfd.readouterr().err


def test_config_prints_what_a_study_file_accepts(tmp_path, capfd):
    from cytosae.pipeline import StudyConfig, read_config

    assert run("config") == 0
    (tmp_path / "study.toml").write_text(capfd.readouterr().out)
    assert read_config(tmp_path / "study.toml") == StudyConfig()


def test_help_teaches_every_option(monkeypatch, capfd):
    monkeypatch.setattr(app, "_console", Console(width=300, force_terminal=False))
    assert run("run", "--help") == 0
    text = " ".join(capfd.readouterr().out.split())
    for words in ("--sae.sparsity.k", "Active latents of a token", "--train-on", "--extract.shard-cells"):
        assert words in text


def test_the_installed_command_answers(tmp_path):
    command = Path(sys.executable).with_name("cytosae")
    version = subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout
    assert version.strip()[0].isdigit()


def test_doctor_says_how_to_mend_what_is_missing(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("CYTOSAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CYTOSAE_OFFLINE", "1")
    monkeypatch.setattr("locale.getpreferredencoding", lambda _do_setlocale=True: "ANSI_X3.4-1968")
    monkeypatch.setattr("shutil.disk_usage", lambda _path: type("Usage", (), {"free": 10**9}))
    monkeypatch.chdir(tmp_path)
    assert run("doctor", "--json") == 0
    found = {f["what"]: (f["state"], f["detail"]) for f in json.loads(capfd.readouterr().out)["findings"]}
    for what, mend in {
        "weights of dinobloom-b": "cytosae model fetch dinobloom-b",
        "SAE cytosae": "cytosae model fetch cytosae",
        "cache": "export CYTOSAE_CACHE=DIR",
        "locale": "export PYTHONUTF8=1",
        "disk": "name a --study on another disk",
        "network": "unset CYTOSAE_OFFLINE",
    }.items():
        assert found[what][0] == "missing"
        assert mend in found[what][1]
    assert found["file locks"] == ("ok", f"hold at {tmp_path}")
    assert "Apache-2.0" in found["weights of dinobloom-b"][1]


def test_doctor_finds_locks_that_everybody_is_granted(tmp_path, monkeypatch):
    class Granted:
        def __init__(self, *_args: object, **_options: object) -> None: ...
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(doctor, "FileLock", Granted)
    (locks,) = [finding for finding in doctor._places(tmp_path) if finding.what == "file locks"]
    assert locks.state == "broken"
    assert "put the study on a local disk" in locks.detail
