"""How tokens are normalised, where weights start; nothing here computes, so that the command line reads it quickly."""

from __future__ import annotations

from dataclasses import dataclass

from cytosae.common.errors import UsageError


@dataclass(frozen=True)
class NoNormalisation:
    """Tokens as they are (the paper's)."""


@dataclass(frozen=True)
class MeanNorm:
    """Scaled by one number so that the mean norm of a token is sqrt(d) (Conerly et al. 2024)."""


@dataclass(frozen=True)
class PositionMean:
    """The mean token of each position taken out, then scaled by one number so that the mean norm is sqrt(d)."""


@dataclass(frozen=True)
class Whitening:
    """Centred and multiplied by (C + floor)^(-1/2) (ZCA): every direction gets the same variance.

    Attributes
    ----------
    floor : float
        Added to each eigenvalue of the covariance C, as a share of their mean, so that directions without variance are
        not blown up.
    position_mean : bool
        Take out the mean of each position instead of the overall mean.
    """

    floor: float = 1e-3
    position_mean: bool = True

    def __post_init__(self) -> None:
        if not self.floor > 0:
            raise UsageError(f"Whitening needs floor > 0, not {self.floor}.")


Normalisation = NoNormalisation | MeanNorm | PositionMean | Whitening


@dataclass(frozen=True)
class Independent:
    """W_enc and W_dec from independent Kaiming-uniform draws, W_dec's rows then brought to unit norm (the paper's)."""


@dataclass(frozen=True)
class Tied:
    """W_dec's rows random directions of unit norm, W_enc its transpose, scaled (Gao et al. 2024).

    Attributes
    ----------
    scale : float
        W_enc is the transposed decoder times this.
    """

    scale: float = 1.0


@dataclass(frozen=True)
class FromData:
    """Like `Tied`, with the directions of tokens drawn at random and mixed with noise, so that no latent starts dead.

    Attributes
    ----------
    noise : float
        Length of the random direction that is added to the token's direction (of length 1).
    scale : float
        W_enc is the transposed decoder times this.
    """

    noise: float = 0.5
    scale: float = 1.0


Initialisation = Independent | Tied | FromData
