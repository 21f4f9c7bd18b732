"""The paper's training recipe written down a second time: numpy in float64, every gradient by hand.

Nothing of the package is used. Source: Dasdelen et al. 2025 (arXiv 2507.12464); N tokens x of width d, m latents.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def geometric_median(images: Array) -> Array:
    """(d,) of images (B, T, d): the median image by Weiszfeld's iteration, then the mean over its positions."""
    points = images.reshape(len(images), -1)
    median = points.mean(0)
    for _ in range(1000):
        weight = 1 / np.maximum(np.linalg.norm(points - median, axis=1), 1e-6)
        median = weight @ points / weight.sum()
    return median.reshape(images.shape[1:]).mean(0)


class PaperTraining:
    """Weights by name (``W_enc`` (d, m), ``b_enc``, ``W_dec`` (m, d), ``b_dec``), trained in place step by step."""

    def __init__(
        self, weights: dict[str, Array], *, l1: float, learning_rate: float, warmup_steps: int, dead_window: int
    ) -> None:
        self.weights = {name: np.array(value, np.float64) for name, value in weights.items()}
        self.l1, self.rate, self.warmup_steps, self.dead_window = l1, learning_rate, warmup_steps, dead_window
        self.moments = {name: (np.zeros_like(w), np.zeros_like(w)) for name, w in self.weights.items()}
        self.silent = np.zeros(len(self.weights["b_enc"]), int)
        self.steps = 0

    def step(self, x: Array) -> dict[str, float]:
        """One update on tokens (N, d); terms of the loss before it."""
        self.normalise_decoder()
        W_enc, b_enc, W_dec, b_dec = (self.weights[name] for name in ("W_enc", "b_enc", "W_dec", "b_dec"))
        dead = np.flatnonzero(self.silent > self.dead_window)
        N, d = x.shape
        length = np.linalg.norm(x, axis=1, keepdims=True)

        scores = (x - b_dec) @ W_enc + b_enc
        a = np.maximum(scores, 0)
        made = a @ W_dec + b_dec
        error = (made - x) ** 2 / length
        terms = {"mse": error.mean(), "l1": self.l1 * a.sum(1).mean(), "ghost": 0.0}

        to_made = 2 * (made - x) / length / (N * d)
        to_scores = (to_made @ W_dec.T + self.l1 / N) * (scores > 0)
        to_W_dec = a.T @ to_made
        if len(dead):
            r = x - made
            loudness = np.exp(scores[:, dead])
            g = loudness @ W_dec[dead]
            scale = np.linalg.norm(r, axis=1, keepdims=True) / (2 * np.linalg.norm(g, axis=1, keepdims=True) + 1e-6)
            far = np.linalg.norm(r, axis=1, keepdims=True)
            ghost = (g * scale - r) ** 2 / far
            weight = error / (ghost + 1e-6)  # no gradient flows through it, nor through scale and r
            terms["ghost"] = (ghost * weight).mean()
            to_g = weight / (N * d) * 2 * (g * scale - r) / far * scale
            to_W_dec[dead] += loudness.T @ to_g
            to_scores[:, dead] += to_g @ W_dec[dead].T * loudness

        to_W_dec -= (to_W_dec * W_dec).sum(1, keepdims=True) * W_dec
        self._adam(
            W_enc=(x - b_dec).T @ to_scores,
            b_enc=to_scores.sum(0),
            W_dec=to_W_dec,
            b_dec=to_made.sum(0) - (to_scores @ W_enc.T).sum(0),
        )
        self.silent += 1
        self.silent[(a > 0).any(0)] = 0
        return {**terms, "loss": sum(terms.values()), "l0": (a > 0).sum() / N, "dead": len(dead)}

    def normalise_decoder(self) -> None:
        """Bring the decoder's rows to unit norm."""
        self.weights["W_dec"] /= np.linalg.norm(self.weights["W_dec"], axis=1, keepdims=True)

    def _adam(self, **gradients: Array) -> None:
        self.steps += 1
        rate = self.rate * min(1.0, self.steps / self.warmup_steps)
        for name, gradient in gradients.items():
            first, second = self.moments[name]
            first += (1 - 0.9) * (gradient - first)
            second += (1 - 0.999) * (gradient**2 - second)
            mean, square = first / (1 - 0.9**self.steps), second / (1 - 0.999**self.steps)
            self.weights[name] -= rate * mean / (np.sqrt(square) + 1e-8)
