"""Which devices there are, what runs on them, and which one `auto` takes."""

from __future__ import annotations

import pytest
import torch
from lightning_fabric.accelerators.mps import MPSAccelerator

from cytosae.cli.doctor import examine
from cytosae.common.devices import double_device, list_devices, require_device, to_double
from cytosae.common.errors import UsageError
from cytosae.common.runtime import RuntimeConfig, make_fabric

APPLE = torch.device("mps")


@pytest.fixture
def apple(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a Mac: its accelerator is there (nothing is computed on it)."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: True))


@pytest.fixture
def intel(monkeypatch: pytest.MonkeyPatch) -> None:
    """As beside an Intel GPU."""
    monkeypatch.setattr(torch.xpu, "is_available", lambda: True)
    monkeypatch.setattr(torch.xpu, "device_count", lambda: 1)
    monkeypatch.setattr(torch.xpu, "get_device_name", lambda _: "Arc")


def test_the_processor_is_always_there():
    assert next(iter(list_devices())) == torch.device("cpu")


def test_auto_takes_an_apple_device_where_there_is_one(apple):
    require_device("mps")
    for device in ("auto", "mps"):
        assert make_fabric(RuntimeConfig(device=device)).device.type == "mps"


def test_the_doctor_says_what_runs_on_each_device(apple, intel):
    found = {finding.what: finding.detail for finding in examine()}
    assert "screening" in found["processor"]
    assert found["device mps"] == "Apple; wide SAEs by dense products"
    assert found["device xpu:0"] == "Arc; `auto` does not choose it; wide SAEs by dense products"
    assert "GPU" not in found


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused_in_a_sentence(device, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError, match=f"device is '{device}' but no {device.upper()} device is usable here"):
        make_fabric(RuntimeConfig(device=device))


def test_float64_from_an_apple_device_is_kept_on_the_processor():
    assert double_device(APPLE).type == "cpu"
    assert double_device(torch.device("cuda", 1)) == torch.device("cuda", 1)
    assert to_double(torch.ones(2)).dtype == torch.float64
