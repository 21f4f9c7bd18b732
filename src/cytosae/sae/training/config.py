"""How a training goes: one frozen dataclass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from cytosae.common.errors import UsageError
from cytosae.sae.screening import Path
from cytosae.sae.training.schedule import Constant, LinearDecay, Schedule


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation of one or several SAEs; what the SAEs are lies in themselves.

    Attributes
    ----------
    learning_rate, betas, epsilon : float, tuple of float, float
        Of Adam.
    warmup_steps : int
        Steps of linear warm-up.
    schedule : Schedule
        What follows the warm-up.
    steps : int
        Steps in all.
    batch_tokens : int
        Tokens a step, over all ranks together.
    dead_window : int
        A latent that has not fired for more than so many steps is dead (`dead_tokens` in tokens).
    ghost_gradients : bool
        Revive dead latents as the paper does (TopK and its kin have AuxK of their own).
    decoder_bias : {"geometric_median", "mean", "zero", "keep"}
        Where b_dec starts; "keep" leaves what the SAE brings.
    sample_tokens : int
        Tokens from which normalisation, b_dec and data-dependent weights are set.
    gradient_clip : float or None
        Largest norm of all gradients together, None for no limit.
    explosion : float
        The loss is held to have exploded when it exceeds its running mean so many times.
    fused_adam : bool
        Adam in one pass over the weights; quicker for wide SAEs, but it rounds otherwise than the published code did,
        and such differences grow over a hundred steps.
    path : {"auto", "dense", "blocks", "screened"}
        How active latents are found: "dense" products, screening with products in float32 ("blocks") or bfloat16
        ("screened"), or "auto"; all give the same numbers up to float32 rounding, the screened ones bitwise the same.
    seed : int
        Of the sample; batches have the reader's seed, initial weights the SAE's.
    checkpoint_every : int
        Steps between checkpoints.
    keep_checkpoints : int
        How many of the last are kept.
    log_every : int
        Steps between rows of ``metrics.csv``.
    """

    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    warmup_steps: int = 100
    schedule: Schedule = field(default_factory=LinearDecay)
    steps: int = 1_000
    batch_tokens: int = 4_096
    dead_window: int = 32
    ghost_gradients: bool = False
    decoder_bias: Literal["geometric_median", "mean", "zero", "keep"] = "mean"
    sample_tokens: int = 65_536
    gradient_clip: float | None = None
    explosion: float = 100.0
    fused_adam: bool = True
    path: Path = "auto"
    seed: int = 0
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    log_every: int = 10

    def __post_init__(self) -> None:
        for name in ("steps", "batch_tokens", "dead_window", "sample_tokens", "checkpoint_every", "log_every"):
            _require(getattr(self, name) >= 1, f"TrainConfig needs {name} >= 1, not {getattr(self, name)}.")
        _require(self.learning_rate > 0, f"TrainConfig needs learning_rate > 0, not {self.learning_rate}.")
        _require(
            len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas),
            f"TrainConfig needs two betas in [0, 1), not {self.betas}.",
        )
        _require(self.warmup_steps >= 0, f"TrainConfig needs warmup_steps >= 0, not {self.warmup_steps}.")
        _require(self.keep_checkpoints >= 1, f"TrainConfig needs keep_checkpoints >= 1, not {self.keep_checkpoints}.")
        _require(
            self.gradient_clip is None or self.gradient_clip > 0,
            f"TrainConfig needs gradient_clip > 0 or none, not {self.gradient_clip}.",
        )
        _require(self.explosion > 1, f"TrainConfig needs explosion > 1, not {self.explosion}.")

    @classmethod
    def paper(cls, **changes: Any) -> TrainConfig:
        """The paper's training (Dasdelen et al. 2025), with ``changes``; its SAE is `ReluL1` without normalisation.

        64 images of 257 tokens a step, 1,000,000 image draws, Adam with 4e-4 after 500 steps of warm-up, ghost
        gradients for latents silent for more than 64 steps, b_dec from the geometric median.
        """
        paper: dict[str, Any] = {
            "learning_rate": 4e-4,
            "warmup_steps": 500,
            "schedule": Constant(),
            "steps": 15_625,
            "batch_tokens": 16_448,
            "dead_window": 64,
            "ghost_gradients": True,
            "decoder_bias": "geometric_median",
            "fused_adam": False,
            "seed": 42,
        }
        return cls(**{**paper, **changes})

    @property
    def dead_tokens(self) -> int:
        """The dead window in tokens, as the field counts it."""
        return self.dead_window * self.batch_tokens

    @property
    def total_tokens(self) -> int:
        """Tokens of the whole training."""
        return self.steps * self.batch_tokens


def _require(condition: object, sentence: str) -> None:
    if not condition:
        raise UsageError(sentence)
