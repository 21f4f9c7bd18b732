"""Where the decoder's bias starts: the geometric median of a batch of images."""

from __future__ import annotations

import torch
from torch import Tensor

from cytosae.common.devices import to_double
from cytosae.common.errors import UsageError


def geometric_median(tokens: Tensor, *, iterations: int = 100, tolerance: float = 1e-6) -> Tensor:
    """Geometric median over images, then the mean over positions.

    An image is one point, its whole token matrix one vector, so that each image has one weight. Weiszfeld's iteration
    from the mean; it stops when the sum of distances changes by less than ``tolerance`` relative to itself.

    Parameters
    ----------
    tokens : Tensor, shape (B, T, d), float
        B images of T tokens.
    iterations : int
        At most so many steps.
    tolerance : float
        Relative change of the objective at which to stop.

    Returns
    -------
    Tensor, shape (d,)
        Tensor of the dtype of ``tokens``.

    References
    ----------
    Dasdelen et al. 2025 (initialisation of b_dec); Weiszfeld 1937; smoothing of the weights as in
    Pillutla et al. 2022, "Robust Aggregation for Federated Learning".

    Examples
    --------
    >>> import torch
    >>> from cytosae.sae import geometric_median
    >>> images = torch.tensor([0.0, 0.0, 1.0]).reshape(3, 1, 1)  # one outlier of three does not move it
    >>> geometric_median(images).round(decimals=3)
    tensor([0.])
    """
    if tokens.ndim != 3 or len(tokens) == 0:
        raise UsageError(
            f"geometric_median needs tokens of the shape [images, tokens, width], not {list(tokens.shape)}."
        )
    points = to_double(tokens.detach().flatten(1))
    median = points.mean(0)
    objective = torch.linalg.vector_norm(points - median, dim=1).sum()
    for _ in range(iterations):
        distance = torch.linalg.vector_norm(points - median, dim=1).clamp_min(1e-6)
        weight = 1 / distance
        median = (weight @ points) / weight.sum()
        previous, objective = objective, torch.linalg.vector_norm(points - median, dim=1).sum()
        if abs(previous - objective) <= tolerance * objective:
            break
    return median.view(tokens.shape[1:]).mean(0).to(tokens.dtype).to(tokens.device)
