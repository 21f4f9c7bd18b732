"""What the doctor finds missing, each with the command that mends it; tests/cli/test_cli.py runs the command."""

from __future__ import annotations

import re
import sys

import pytest
import torch

from cytosae.backbones import Backbone, load_backbone
from cytosae.cli import doctor
from cytosae.cli.doctor import Finding
from cytosae.sae.exchange.published_saes import SAES, fetched_folder


def found(findings) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings}


def test_every_package_that_is_missing_or_too_old_is_named_with_its_command(monkeypatch):
    asked = [
        "numpy>=999",
        "never-written>=1",
        "torch>=2; extra == 'onnx'",
        "nor-this-one>=2; extra == 'onnx'",
        "fastapi>=0.1; extra == 'explorer'",
        "only-elsewhere>=1; sys_platform == 'elsewhere'",
        "only-for-tests>=1; extra == 'test'",
    ]
    monkeypatch.setattr(doctor, "requires", lambda _name: asked)
    told = found(doctor._packages())
    install = f"{sys.executable} -m pip install"
    assert told["numpy"].state == "broken"
    assert f"needed is >=999: {install} --upgrade numpy" in told["numpy"].detail
    assert told["never-written"] == ("never-written", "broken", f"is not installed: {install} --upgrade never-written")
    assert told["extra onnx"].state == "missing"
    assert told["extra onnx"].detail.endswith(f"missing nor-this-one: {install} 'cytosae[onnx]'")
    assert told["extra explorer"].state == "ok"
    assert not {"only-elsewhere", "only-for-tests"} & set(told)


def test_every_extra_for_users_is_looked_at():
    asked = {name for text in doctor.requires("cytosae") for name in doctor.EXTRAS if f"extra == '{name}'" in text}
    assert asked == set(doctor.EXTRAS)


@pytest.mark.parametrize(
    ("driver", "cuda", "words"),
    [
        (None, None, "everything runs on the CPU"),
        (
            "/usr/bin/nvidia-smi",
            None,
            "this PyTorch is for the CPU alone: .* install --force-reinstall torch torchvision",
        ),
        ("/usr/bin/nvidia-smi", "12.8", "PyTorch for CUDA 12.8 sees no GPU: nvidia-smi tells"),
    ],
)
def test_a_gpu_that_is_not_used_is_told_from_one_that_is_not_there(driver, cuda, words, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _name: driver)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr("cytosae.common.devices.list_devices", lambda: {torch.device("cpu"): "2 cores"})
    told = found(doctor._machine())["GPU"]
    assert told.state == "missing"
    assert re.search(words, told.detail)


def test_a_disc_that_machines_share_is_known_by_its_mount(tmp_path):
    mounts = tmp_path / "mounts"
    share = tmp_path / "my share"
    (share / "study").mkdir(parents=True)
    escaped = str(share).replace(" ", "\\040")
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/export {escaped} nfs4 rw 0 0\n")
    assert doctor._network_disc(share / "study", mounts) == "nfs4"
    assert doctor._network_disc(tmp_path, mounts) == ""
    assert doctor._network_disc(share, tmp_path / "not Linux") == ""


def test_locks_on_a_shared_disc_are_not_said_to_hold_between_machines(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "_network_disc", lambda _here: "nfs4")
    told = doctor._locks(tmp_path)
    assert told.state == "ok"
    assert told.detail.endswith("among programs of this machine; on nfs4 others were not tried")


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("CYTOSAE_CACHE", str(tmp_path))
    monkeypatch.setattr("os.access", lambda *_: False)
    told = found(doctor._places(tmp_path))["cache"]
    assert told.state == "missing"
    assert "not writable; another: export CYTOSAE_CACHE=DIR" in told.detail


def test_the_published_sae_is_found_where_it_was_fetched_to(tmp_path, monkeypatch):
    monkeypatch.setenv("CYTOSAE_CACHE", str(tmp_path))
    assert found(doctor._weights())["SAE cytosae"].state == "missing"
    fetched_folder(SAES["cytosae"]).mkdir(parents=True)
    told = found(doctor._weights())["SAE cytosae"]
    assert (told.state, str(tmp_path) in told.detail) == ("ok", True)


def test_a_device_that_fails_is_a_line_and_not_the_end(monkeypatch):
    class Failing(Backbone):
        def to(self, device, **_options):
            raise RuntimeError(f"no kernel image is available\nfor {device}")

    def load(name: str) -> object:
        backbone = load_backbone(name)
        if loads:
            backbone.__class__ = Failing
        loads.append(name)
        return backbone

    loads: list[str] = []
    devices = {torch.device("cpu"): "", torch.device("cuda", 0): "an old one"}
    monkeypatch.setattr("cytosae.common.devices.list_devices", lambda: devices)
    monkeypatch.setattr("cytosae.load_backbone", load)
    told = found(doctor._backbone())
    assert told["bundled backbone"].state == "ok"
    failing = told["bundled backbone on cuda:0"]
    assert failing.state == "missing"
    assert "(no kernel image is available for cuda:0); elsewhere: --runtime.device cpu" in failing.detail
