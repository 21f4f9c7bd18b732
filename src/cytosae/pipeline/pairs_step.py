"""The step that shows pairs of drawn cells to the study's backbone and SAE, and to random weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from cytosae.evaluation.config import PairsConfig
from cytosae.pipeline.dataset_steps import backbone_source
from cytosae.pipeline.places import Place
from cytosae.pipeline.step import Job, Step

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cytosae.backbones import AnyBackbone
    from cytosae.cells.focus.patch_grid import Grid
    from cytosae.cells.synthetic import Drawing
    from cytosae.pipeline.study_config import StudyConfig
    from cytosae.sae import SparseAutoencoder
    from cytosae.tokens.config import Focus

PAIRS = Place("pairs")
BATCH = 32
"""Drawn cells that are encoded at a time."""


def pairs_step(config: StudyConfig, backbone: AnyBackbone, asked: PairsConfig) -> Step:
    """Ask of each concept whether it follows one attribute of drawn cells and nothing else."""
    slice_ = {"pairs": asked, "stain": config.extract.stain, "focus": config.focus}
    return Step(PAIRS, _ask, slice_, (Place("sae"),), {"backbone": backbone_source(backbone)})


def _ask(job: Job) -> None:
    from cytosae.cells.stain.normalisation import prepare_stained
    from cytosae.evaluation.concept_pairs import ask_pairs, save_pairs
    from cytosae.sae.model.level import refuse_other_level
    from cytosae.sae.model.randomised import randomised

    asked, backbone, sae = job.asked["pairs"], job.source("backbone"), job.sae()
    level = {**backbone.describe(), "stain": job.asked["stain"]}
    refuse_other_level(sae, level, f"the backbone {backbone.name} of this study")
    prepare = prepare_stained(backbone.prepare, job.asked["stain"])
    coders = {"learned": sae, "random": randomised(sae, asked.seed).eval()}

    def encode(drawings: Sequence[Drawing]) -> dict[str, Any]:
        found: dict[str, list[Any]] = {name: [] for name in coders}
        for start in range(0, len(drawings), BATCH):
            some = drawings[start : start + BATCH]
            tokens = backbone(prepare([one.image for one in some])).float().cpu()
            counted = np.stack([_counted(one, job.asked["focus"], backbone.grid) for one in some])
            for name, coder in coders.items():
                found[name].append(_cell_activations(coder, tokens, counted))
        return {name: sp.vstack(parts) for name, parts in found.items()}

    save_pairs(ask_pairs(encode, asked), job.path, **job.record)


def _counted(drawing: Drawing, focus: Focus, grid: Grid) -> NDArray[np.bool_]:
    """Which tokens [T] of a drawn cell count; where the cell is, its own mask tells."""
    from cytosae.tokens.focus.part_shares import PartShares
    from cytosae.tokens.focus.tokens_in_focus import in_focus

    return in_focus(PartShares(grid)([drawing.mask])[0].numpy(), focus)[0]


def _cell_activations(sae: SparseAutoencoder, tokens: Any, counted: NDArray[np.bool_]) -> Any:
    """(b, m) mean activation of each cell over the tokens (b, T) that count."""
    from cytosae.atlas.encoding.token_activations import encode_cells

    codes = encode_cells(sae, tokens, counted)
    b, T = counted.shape
    of = sp.csr_array(
        ((counted / counted.sum(1, keepdims=True)).ravel(), (np.repeat(np.arange(b), T), np.arange(b * T)))
    )
    return of @ codes
