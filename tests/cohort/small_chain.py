"""A small cohort with planted concepts: an SAE whose activations are known exactly, its tokens, cells and atlas.

24 patients (12 APL: P00 to P11; 12 AML: P12 to P23) of about 20 cells; 17 tokens of width 64 a cell; 64 latents:

* 0 fires on every token of every cell; 1 to 4 fire at random on a third of all cells; 63 never fires;
* `APL_LATENT` 5 fires in most promyelocytes of APL patients and in nothing else;
* `AML_LATENT` 9 fires in most myeloblasts of AML patients and in nothing else;
* 10 to 14 fire in cells of the type TYPES[latent - 10], whatever the diagnosis;
* `PATIENT_LATENT` 30 fires in most cells of the patient `ODD_PATIENT` (APL) and weakly in a few of anyone's;
* 40 to 62 fire rarely, in random cells; 31 to 39 fire weakly (below `TAU`) on random tokens.

Diagnosis is not in the number of cells, age or sex.
"""

from __future__ import annotations

import hashlib
import warnings

import numpy as np
import pandas as pd
import torch
from atlas.stub_chain import StubCells, StubStore

TYPES = ("promyelocyte", "myeloblast", "monocyte", "lymphocyte", "neutrophil_segmented")
APL_LATENT, AML_LATENT, PATIENT_LATENT, DEAD_LATENT, ODD_PATIENT = 5, 9, 30, 63, "P03"
TAU, SIDE, WIDTH = 0.5, 4, 64
MIXTURE = {"APL": (0.25, 0.15, 0.1, 0.2, 0.3), "AML": (0.05, 0.35, 0.1, 0.2, 0.3)}
"""Expected shares of TYPES."""


class RotationSae:
    """Activations are the tokens in another orthonormal basis; what is below 0.01 counts as 0."""

    def __init__(self, width: int = WIDTH, seed: int = 1) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.basis = torch.linalg.qr(torch.randn(width, width, generator=generator))[0]
        self.d_in = self.d_sae = width
        self.W_enc = self.basis.T
        self.sparsity = None
        self.fingerprint = "sae-small"
        self.level = None

    def encode(self, x: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        a = x @ self.W_enc
        return torch.where(a > 0.01, a, torch.zeros_like(a))

    def encode_sparse(self, x: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        a = self.encode(x).numpy()
        token, latent = np.nonzero(a)
        crow = np.concatenate([[0], np.cumsum(np.bincount(token, minlength=len(a)))])
        return _quiet_csr(crow, latent, a[token, latent], a.shape)

    def describe(self) -> dict:
        return {"d_in": self.d_in, "d_sae": self.d_sae, "sparsity": {"type": "Stub"}}


def make_small_chain(seed: int = 0) -> tuple[RotationSae, StubStore, StubCells]:
    """SAE, token store and cell table; `store.activations` [cells, 17, 64] are the planted activations."""
    rng = np.random.default_rng(seed)
    frame = _frame(rng)
    activations = _activations(frame, rng)
    sae = RotationSae()
    tokens = torch.from_numpy(activations) @ sae.basis
    store = StubStore(tokens, list(frame["cell_id"]))
    store.activations = activations
    store.fingerprint = "tokens-small"
    cells = StubCells(frame, name="small")
    cells.fingerprint = "cells-small"
    return sae, store, cells


def _frame(rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for number in range(24):
        diagnosis = "APL" if number < 12 else "AML"
        age, sex = int(rng.integers(20, 80)), ("female", "male")[number % 2]
        n = int(rng.integers(18, 24))
        # at least three of the planted types in each patient, so that nothing hangs on a rare draw
        labels = ["promyelocyte"] * 3 + ["myeloblast"] * 3
        labels += rng.choice(TYPES, n - len(labels), p=MIXTURE[diagnosis]).tolist()
        for place, label in enumerate(rng.permutation(labels)):
            name = f"P{number:02d}/{place:02d}"
            rows.append(
                {
                    "cell_id": hashlib.sha256(name.encode()).hexdigest(),
                    "image": f"{name}.png",
                    "label": None if place == 5 and number % 4 == 0 else str(label),
                    "true_label": str(label),
                    "patient": f"P{number:02d}",
                    "diagnosis": diagnosis,
                    "age": age,
                    "sex": sex,
                    "width": 64,
                    "height": 64,
                    "status": "ok",
                    "mask": None,
                }
            )
    # atlases come in no particular order of patients
    frame = pd.DataFrame(rows).sample(frac=1, random_state=np.random.RandomState(4)).reset_index(drop=True)
    for column in ("label", "mask"):
        frame[column] = frame[column].astype("string")
    return frame


def _activations(frame: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    n, T = len(frame), SIDE * SIDE + 1
    a = np.zeros((n, T, WIDTH), np.float32)
    true, apl = frame["true_label"].to_numpy(), (frame["diagnosis"] == "APL").to_numpy()
    odd = (frame["patient"] == ODD_PATIENT).to_numpy()

    def fire(cells: np.ndarray, latent: int, share: float, strength: float, tokens: int) -> None:
        for i in np.flatnonzero(cells & (rng.random(n) < share)):
            places = rng.choice(T, int(rng.integers(1, tokens + 1)), replace=False)
            a[i, places, latent] = strength * rng.uniform(0.8, 1.6, len(places))

    everything = np.ones(n, bool)
    a[:, :, 0] = rng.uniform(0.8, 1.2, (n, T))
    for latent in range(1, 5):
        fire(everything, latent, 1 / 3, 1.0, 5)
    fire(apl & (true == "promyelocyte"), APL_LATENT, 0.9, 2.0, 6)
    fire(~apl & (true == "myeloblast"), AML_LATENT, 0.9, 2.0, 6)
    for place, name in enumerate(TYPES):
        fire(true == name, 10 + place, 0.9, 1.5, 6)
    fire(odd, PATIENT_LATENT, 0.9, 2.0, 6)
    fire(~odd, PATIENT_LATENT, 0.05, 0.8, 2)
    for latent in range(40, 63):
        fire(everything, latent, 0.05, 1.0, 3)
    weak = rng.random((n, T, 9)) < 0.1
    a[:, :, 31:40] = np.where(weak, rng.uniform(0.1, 0.4, weak.shape), 0)
    return a


def _quiet_csr(crow: np.ndarray, col: np.ndarray, values: np.ndarray, shape: tuple[int, int]) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.sparse_csr_tensor(
            torch.from_numpy(crow), torch.from_numpy(col), torch.from_numpy(values), size=shape
        )
