"""A small SAE, token store and cell table with the attributes that the atlas and the report use."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cytosae.cells.focus.patch_grid import checked_grid

SIDE = 4


class StubSae:
    """Linear encoder with a threshold, computed sparsely."""

    def __init__(self, d_in: int = 12, d_sae: int = 30, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.d_in, self.d_sae = d_in, d_sae
        self.W_enc = torch.randn(d_in, d_sae, generator=generator)
        self.b_enc = -torch.rand(d_sae, generator=generator) * 4 - 1
        self.b_enc[3] = -1e9  # a dead latent
        self.fingerprint = "sae-stub"
        self.level = None
        self.sparsity = None

    def encode(self, x: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        return torch.relu(x @ self.W_enc + self.b_enc)

    def encode_sparse(self, x: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        assert positions is not None
        assert len(positions) == len(x)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.encode(x).to_sparse_csr()

    def describe(self) -> dict:
        return {"d_in": self.d_in, "d_sae": self.d_sae, "sparsity": {"type": "Stub"}}


class StubStore:
    def __init__(self, tokens: torch.Tensor, cell_ids: list[str]) -> None:
        self.tokens, self.cell_ids = tokens, cell_ids
        self.path = Path("tokens/stub")
        self.manifest = {"backbone": {"name": "stub", "width": tokens.shape[2], "note": None}}
        self.fingerprint = "tokens-stub"
        self.focus, self.counted = "all", None
        self.n_tokens, self.width = tokens.shape[1:]
        self.grid = checked_grid(None, self.n_tokens - 1)

    def __len__(self) -> int:
        return len(self.tokens)

    def read(self, start: int, stop: int) -> torch.Tensor:
        return self.tokens[start:stop]

    def batches(self, size: int):
        for start in range(0, len(self), size):
            yield start, self.read(start, min(start + size, len(self)))


class StubCells:
    def __init__(self, frame: pd.DataFrame, name: str = "stub", root: Path = Path()) -> None:
        self.frame, self.name, self.root = frame, name, root
        self.fingerprint = "cells-stub"
        self.layout = "stub layout"
        self.skipped = pd.DataFrame({"path": ["broken.png"], "reason": ["truncated"]})
        self.duplicates = pd.DataFrame(
            {"cell_id": [], "kept": [], "dropped": [], "kept_label": [], "dropped_label": [], "labels_differ": []}
        )

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def labels(self) -> list[str]:
        return sorted(self.frame["label"].dropna().unique())

    def image_path(self, i: int) -> Path:
        return self.root / self.frame["image"].iloc[i]

    def mask_path(self, i: int) -> Path | None:
        mask = self.frame["mask"].iloc[i]
        return None if pd.isna(mask) else self.root / mask


def cell_id(i: int) -> str:
    return hashlib.sha256(str(i).encode()).hexdigest()


def make_chain(n: int = 23, seed: int = 0, classes: tuple[str, ...] = ("basophil", "monocyte", "neutrophil")):
    """SAE, store and cells: 17 tokens of width 12 for each cell; some labels are missing."""
    rng = np.random.default_rng(seed)
    ids = [cell_id(i) for i in range(n)]
    labels = [None if i % 7 == 3 else classes[i % len(classes)] for i in range(n)]
    frame = pd.DataFrame(
        {
            "cell_id": ids,
            "image": [f"{i}.png" for i in range(n)],
            "label": pd.array(labels, dtype="string"),
            "patient": pd.array([None] * n, dtype="string"),
            "diagnosis": pd.array([None] * n, dtype="string"),
            "mask": pd.array([None] * n, dtype="string"),
            "width": 64,
            "height": 64,
            "status": "ok",
            "score": [None if i == 2 else i / 10 for i in range(n)],
            "mixed": [i if i % 2 else "x" for i in range(n)],
        }
    )
    tokens = torch.from_numpy(rng.standard_normal((n, SIDE * SIDE + 1, 12)).astype(np.float32))
    return StubSae(seed=seed), StubStore(tokens, ids), StubCells(frame)
