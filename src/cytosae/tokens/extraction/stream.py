"""Training without a store: tokens are extracted as they are asked for, and nothing is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from cytosae.common.artifact import digest
from cytosae.tokens.extraction.extract import ExtractConfig, Forward, recipe_for
from cytosae.tokens.reading.reader import ReaderConfig, ShuffledTokens, TokenBatch, selection
from cytosae.tokens.store.encoding import Planes, allocate, decoded, encoding_of, gather
from cytosae.tokens.store.shuffle import Order

if TYPE_CHECKING:
    from cytosae.backbones import AnyBackbone
    from cytosae.cells import CellTable

_SAMPLE_CELLS = 256


class TokenStream(ShuffledTokens):
    """Shuffled batches straight from images; each epoch costs a pass of the backbone over all cells.

    A pool holds all tokens of its cells, which are drawn at random: it mixes as `TokenReader` does with runs of a
    whole image. While batches of one pool are given, the next is extracted in the background.

    Parameters
    ----------
    cells, backbone : CellTable, AnyBackbone
        Images, and what makes tokens of them.
    config : ReaderConfig or None
        Batch, selection, seed, ``buffer_tokens`` (of a pool); memory and runs do not apply.
    extraction : ExtractConfig
        Storage type in memory, precision, batch size and workers.
    device : device or None
        Where the backbone computes; None for where it is.
    rank, ranks : int
        This process among those that share each epoch.
    """

    extraction: ExtractConfig

    def __init__(
        self,
        cells: CellTable,
        backbone: AnyBackbone,
        config: ReaderConfig | None = None,
        *,
        extraction: ExtractConfig | None = None,
        device: torch.device | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        config = config or ReaderConfig()
        self.cells = cells
        self.extraction = extraction or ExtractConfig()
        _, chosen = selection(config.which, backbone.n_tokens)
        total = len(cells) * chosen
        order = Order(
            total=total, run=chosen, pool=max(config.buffer_tokens, chosen), seed=config.seed, rank=rank, ranks=ranks
        )
        encoding = encoding_of(self.extraction.dtype)
        super().__init__(config, order, encoding, n_tokens=backbone.n_tokens, width=backbone.width)
        self._forward = Forward(backbone, self.extraction, device or backbone.device)

    def sample(self, n: int, seed: int) -> TokenBatch:
        """At most ``n`` random tokens of about 256 random cells (more if ``n`` takes more); equal on all ranks."""
        rng = np.random.default_rng(seed)
        n_cells = min(len(self.cells), max(_SAMPLE_CELLS, -(-n // self._chosen)))
        cells = np.sort(rng.permutation(len(self.cells))[:n_cells])
        tokens = (cells[:, None] * self._chosen + np.arange(self._chosen)).ravel()
        rows = torch.from_numpy(rng.permutation(len(tokens))[:n])
        planes = allocate(self._encoding, (len(tokens),), self.width)
        self._load(tokens, planes)
        return TokenBatch(
            decoded(self._encoding, gather(planes, rows)), self._first + torch.from_numpy(tokens)[rows] % self._chosen
        )

    def _load(self, tokens: np.ndarray, into: Planes) -> None:
        rows = tokens[:: self._chosen] // self._chosen
        size = self.extraction.batch_size
        batches = [rows[first : first + size].tolist() for first in range(0, len(rows), size)]
        last = self._first + self._chosen
        at = 0
        for batch in self._forward.over(self.cells, batches):
            chosen = batch[:, self._first : last].flatten(0, 1)
            for name, stored in self._encoding.encode(chosen).items():
                into[name][at : at + len(chosen)] = stored.cpu()
            at += len(chosen)

    def _source(self) -> list[str]:
        recipe = recipe_for(self._forward.backbone, self.extraction)
        return [digest([str(cell) for cell in self.cells.frame["cell_id"]]), recipe.fingerprint]
