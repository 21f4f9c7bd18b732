"""extract.compile: the option is used, costs rounding only, compiles once, and is refused where nothing compiles."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokens.token_stubs import StubBackbone, content

from cytosae.backbones import load_backbone
from cytosae.cells import CellTable
from cytosae.common.errors import UsageError
from cytosae.tokens import ExtractConfig, TokenStore, extract, recipe_for
from cytosae.tokens.extraction.extract import Forward

CPU = torch.device("cpu")


class Compilations:
    """A backend for torch.compile that compiles nothing and keeps the batch sizes that it was asked for."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[torch.Tensor]):
        self.sizes += [len(tensor) for tensor in inputs if tensor.ndim == 4 and tensor.shape[1] == 3]
        return graph.forward


class PlainBackbone(StubBackbone):
    """Without the stub's diary, which torch.compile would look at again at every call."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.tokens(batch)


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> Compilations:
    torch.compiler.reset()
    backend = Compilations()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    return backend


def test_batches_of_all_sizes_share_one_compilation(
    cells: CellTable, store: TokenStore, small: ExtractConfig, compilations: Compilations, tmp_path: Path
) -> None:
    made = extract(cells, PlainBackbone(), tmp_path / "t", config=replace(small, compile=True))
    assert compilations.sizes == [4]
    assert content(made.path) == content(store.path)


def test_tokens_are_those_of_the_recipe_without_it(cells: CellTable, small: ExtractConfig, tmp_path: Path) -> None:
    backbone, config = StubBackbone(), replace(small, compile=True)
    assert recipe_for(backbone, config).fingerprint == recipe_for(backbone, small).fingerprint
    extract(cells, backbone, tmp_path / "t", config=small)
    backbone.seen.clear()
    extract(cells, backbone, tmp_path / "t", config=config)
    assert backbone.seen == []


def test_it_is_refused_where_the_compiler_fails(cells: CellTable, small: ExtractConfig, tmp_path, monkeypatch) -> None:
    def backend(graph, inputs):
        raise RuntimeError("no compiler anywhere")

    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    with pytest.raises(UsageError, match=r"extract\.compile .* no compiler anywhere.* install a C\+\+ compiler"):
        extract(cells, PlainBackbone(), tmp_path / "t", config=replace(small, compile=True))
    assert not (tmp_path / "t").exists()


def test_it_is_refused_where_torch_does_not_compile(monkeypatch) -> None:
    def refuse(*model, **options):
        raise RuntimeError("torch.compile is not supported here")

    monkeypatch.setattr(torch, "compile", refuse)
    with pytest.raises(UsageError, match="not supported here"):
        Forward(StubBackbone(), ExtractConfig(compile=True), CPU)


def test_an_error_of_the_backbone_stays_its_own(compilations: Compilations) -> None:
    forward = Forward(PlainBackbone(), ExtractConfig(compile=True, batch_size=2), CPU)
    with pytest.raises(RuntimeError, match="shape"):
        forward(torch.zeros(2, 3, 7, 7))


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.02)])
def test_tokens_agree_with_the_plain_path_within_the_stated_tolerance(precision, tolerance: float) -> None:
    torch.compiler.reset()
    backbone = load_backbone("tiny")
    batch = torch.randn(3, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    compiled = Forward(backbone, ExtractConfig(compile=True, batch_size=4, precision=precision), CPU)(batch)
    plain = backbone(batch)
    assert compiled.shape == plain.shape
    error = (compiled - plain).norm(dim=-1) / plain.norm(dim=-1)
    assert 0 < error.max() < tolerance  # not 0: sums are taken in another order, so the option was at work


@pytest.mark.slow
def test_it_is_refused_in_a_sentence_without_a_compiler(tmp_path: Path) -> None:
    code = """
import torch
from cytosae.backbones import load_backbone
from cytosae.tokens.extraction.extract import ExtractConfig, Forward
forward = Forward(load_backbone("tiny"), ExtractConfig(compile=True, batch_size=1), torch.device("cpu"))
forward(torch.zeros(1, 3, 256, 256))
"""
    variables = {**os.environ, "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "UsageError: extract.compile is asked for, but torch cannot compile here" in run.stderr
