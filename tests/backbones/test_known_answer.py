"""The known answer: the bundled weights give it after every block, and a computation that differs is noticed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cytosae.backbones import REGISTRY, Backbone, load_backbone, verify_answer
from cytosae.backbones.known_answer import ELSEWHERE, ON_THE_CPU, draw_known_cell, known_answer
from cytosae.cli.doctor import examine
from cytosae.common.errors import WeightsError

FORMER = next(iter(REGISTRY["tiny"].former))


def fresh() -> Backbone:
    backbone = load_backbone("tiny")
    assert isinstance(backbone, Backbone)
    return backbone


@pytest.mark.parametrize(("weights", "block"), [(None, None), (None, 1), (None, 8), (FORMER, None), (FORMER, 6)])
def test_bundled_weights_give_their_known_answer(weights: str | None, block: int | None) -> None:
    backbone = load_backbone("tiny", weights, block=block, verify=True)
    distance = verify_answer(backbone)
    assert distance is not None
    assert distance < ON_THE_CPU / 2


def test_known_answers_are_of_all_blocks_and_differ() -> None:
    backbone = fresh()
    answers = []
    for backbone.block in range(1, 9):
        answers.append(known_answer(backbone))
    assert all(answer is not None and len(answer) == 192 for answer in answers)
    assert len({tuple(answer or ()) for answer in answers}) == 8


def _another_interpolation(backbone: Backbone) -> None:
    backbone.preprocessing = replace(backbone.preprocessing, interpolation="bicubic")


def _other_colours(backbone: Backbone) -> None:
    backbone.preprocessing = replace(backbone.preprocessing, std=(0.25, 0.25, 0.25))


def _approximate_gelu(backbone: Backbone) -> None:
    for block in backbone.model.blocks:
        block.mlp.act = nn.GELU(approximate="tanh")


def _another_epsilon(backbone: Backbone) -> None:
    for module in backbone.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-5


def _not_a_number(backbone: Backbone) -> None:
    with torch.no_grad():
        backbone.model.blocks[2].norm1.weight[5] = torch.nan


def _rows_for_columns(backbone: Backbone) -> None:
    table = backbone.model.pos_embed
    with torch.no_grad():
        table[:, 1:] = table[:, 1:].unflatten(1, (16, 16)).transpose(1, 2).flatten(1, 2)


@pytest.mark.parametrize(
    "change",
    [
        _another_interpolation,
        _other_colours,
        _approximate_gelu,
        _another_epsilon,
        _not_a_number,
        _rows_for_columns,
    ],
)
def test_a_computation_that_differs_is_noticed(change: Callable[[Backbone], None]) -> None:
    backbone = fresh()
    change(backbone)
    with pytest.raises(WeightsError, match="tiny on cpu does not give its known answer .* install the versions"):
        verify_answer(backbone)


def test_weights_of_which_nothing_is_known_have_no_answer(dinobloom_file) -> None:
    assert verify_answer(load_backbone("dinobloom-s", dinobloom_file)) is None
    assert verify_answer(load_backbone("dinobloom-s", dinobloom_file, verify=True)) is None


def test_the_known_cell_is_drawn_of_integers_and_is_not_the_same_from_every_side() -> None:
    cell = draw_known_cell()
    assert cell.dtype == np.uint8
    for turned in (cell[::-1], cell[:, ::-1], cell[..., ::-1]):
        assert not np.array_equal(turned, cell)


def test_the_doctor_notices_a_machine_that_computes_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_name: str) -> Backbone:
        backbone = fresh()
        _approximate_gelu(backbone)
        return backbone

    monkeypatch.setattr("cytosae.load_backbone", load)
    (found,) = [finding for finding in examine() if finding.what == "bundled backbone"]
    assert found.state == "broken"
    assert "does not give its known answer" in found.detail


@pytest.mark.cuda
def test_a_gpu_gives_the_known_answer_too() -> None:
    distance = verify_answer(fresh().to("cuda"))
    assert distance is not None
    assert distance < ELSEWHERE / 2
