"""What visaebench says of a TopK autoencoder and of tokens in a file: python quality_worker.py INPUT.npz"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
from visaebench.metrics import FVU, FeatureLocalization, MonosemanticityScore


class Autoencoder:
    """A TopK autoencoder by its weights, in plain torch."""

    def __init__(self, given: dict[str, torch.Tensor]) -> None:
        self.given, self.k = given, int(given["k"])

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        scores = (x - self.given["b_dec"]) @ self.given["W_enc"] + self.given["b_enc"]
        kept = scores.topk(self.k, dim=-1)
        return torch.zeros_like(scores).scatter(-1, kept.indices, kept.values.relu())

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        return codes @ self.given["W_dec"] + self.given["b_dec"]


class Embeddings:
    """An evaluating backbone whose embedding of an image is known; an image is its number."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows

    def extract_activations(self, images: list[int], layer: int) -> torch.Tensor:
        del layer
        return self.rows[images][:, None]


def main(path: str) -> None:
    given = {name: torch.from_numpy(value) for name, value in np.load(path).items()}
    sae, tokens = Autoencoder(given), given["tokens"]
    n, patches, width = tokens.shape
    side, latents = round(patches**0.5), given["W_dec"].shape[0]
    flat = tokens.reshape(-1, width)
    rebuilt = FVU().compute(sae, flat - flat.mean(0), device="cpu", dict_size=latents).metadata
    single = MonosemanticityScore(top_k_images=n, max_features=latents).compute(
        sae, tokens, device="cpu", images=range(n), evaluator_backbone=Embeddings(given["embeddings"])
    )
    local = FeatureLocalization((side, side), min_images_per_feature=1, max_images_per_feature=n, max_features=latents)
    found = {
        "explained_variance": rebuilt["explained_variance"],
        "l0": rebuilt["l0"],
        "dead_share": rebuilt["dead_pct"] / 100,
        "monosemanticity": single.value,
        "spatial_structure": local.compute(sae, tokens, device="cpu").value,
    }
    print("@" + json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
