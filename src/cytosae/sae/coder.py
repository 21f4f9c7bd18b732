"""`SparseCoder`: an SAE as a scikit-learn estimator, for embeddings that are already arrays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Tags, check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from cytosae.sae.model.autoencoder import SparseAutoencoder
from cytosae.sae.model.choices import MeanNorm, Tied
from cytosae.sae.training.config import TrainConfig
from cytosae.sae.training.trainer import Trainer
from cytosae.sae.variants import TopK
from cytosae.tokens.reading.reader import TokenBatch

if TYPE_CHECKING:

    class _Transformer:
        """What scikit-learn's bases add, whose own types are not published."""

        def fit_transform(self, X: ArrayLike, y: object = None) -> sp.csr_matrix: ...
        def get_feature_names_out(self, input_features: object = None) -> NDArray[Any]: ...
        def get_params(self, *, deep: bool = True) -> dict[str, Any]: ...
        def set_params(self, **params: Any) -> Self: ...
        def __sklearn_tags__(self) -> Tags: ...
else:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin

    class _Transformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
        """scikit-learn's bases of a transformer."""


_DECODED = 1024
"""Rows whose activations are dense at a time."""


class SparseCoder(_Transformer):
    """Rows of numbers as sparse, non-negative sums of learned directions: a TopK autoencoder with scikit-learn's face.

    For embeddings of whole cells or tokens of any model that lie in memory; token stores are trained on by `Trainer`.

    Parameters
    ----------
    k : int
        Active latents of a row at most; all latents where there are fewer.
    n_latents : int or None
        m; None for 16 times the columns.
    steps, batch_size : int, int
        Of the training: rows are drawn anew in random order each time all have been seen.
    learning_rate : float
        Of Adam.
    device : str
        Where it is computed, as torch names it.
    random_state : int, RandomState or None
        Of the weights and the order of the rows; an int gives the same coder each time.

    Attributes
    ----------
    sae_ : SparseAutoencoder
        What was learned; `cytosae.sae.save_sae` writes it.
    n_features_in_ : int
        d, columns.

    Examples
    --------
    >>> import numpy as np
    >>> import cytosae
    >>> X = np.random.default_rng(0).normal(size=(200, 8))
    >>> coder = cytosae.SparseCoder(k=4, n_latents=32, steps=50, random_state=0).fit(X)
    >>> codes = coder.transform(X)
    >>> codes.shape, coder.inverse_transform(codes).shape, coder.get_feature_names_out()[:2].tolist()
    ((200, 32), (200, 8), ['sparsecoder0', 'sparsecoder1'])
    """

    sae_: SparseAutoencoder
    n_features_in_: int

    def __init__(
        self,
        k: int = 32,
        n_latents: int | None = None,
        *,
        steps: int = 1000,
        batch_size: int = 1024,
        learning_rate: float = 1e-3,
        device: str = "cpu",
        random_state: Any = None,
    ) -> None:
        self.k = k
        self.n_latents = n_latents
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.device = device
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Train on rows X [n, d]; ``y`` is not looked at."""
        rows = torch.from_numpy(self._checked(X, reset=True))
        n, d = rows.shape
        m = 16 * d if self.n_latents is None else self.n_latents
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        variant = TopK(min(self.k, m), aux_k=min(64, m))
        sae = SparseAutoencoder(d, m, variant, MeanNorm(), initialisation=Tied(), seed=seed).to(self.device)
        config = TrainConfig(
            learning_rate=self.learning_rate,
            steps=self.steps,
            batch_tokens=min(self.batch_size, n),
            explosion=math.inf,  # a few rows can be learned by heart, and the loss of nothing is no measure
            seed=seed,
        )
        Trainer(sae, config).fit(_Rows(rows, config.batch_tokens, seed))
        self.sae_ = sae.eval()
        return self

    def transform(self, X: ArrayLike) -> sp.csr_matrix:
        """Activations of rows X [n, d]: CSR float32 [n, m], at most k of a row above 0."""
        check_is_fitted(self)
        with torch.no_grad():
            codes = self.sae_.encode_sparse(torch.from_numpy(self._checked(X, reset=False))).cpu()
        parts = (codes.values(), codes.col_indices(), codes.crow_indices())
        return sp.csr_matrix(tuple(part.numpy() for part in parts), shape=tuple(codes.shape))

    def inverse_transform(self, X: Any) -> NDArray[np.float32]:
        """Rows [n, d] float32 that activations X [n, m], sparse or dense, stand for."""
        check_is_fitted(self)
        codes = sp.csr_array(cast("Any", check_array)(X, accept_sparse="csr", dtype=np.float32))
        out = np.empty((len(codes.indptr) - 1, self.sae_.d_in), np.float32)
        with torch.no_grad():
            for start in range(0, len(out), _DECODED):
                block = torch.from_numpy(codes[start : start + _DECODED].toarray())
                out[start : start + len(block)] = self.sae_.decode(block).cpu().numpy()
        return out

    def _checked(self, X: ArrayLike, *, reset: bool) -> NDArray[np.float32]:
        return cast("Any", validate_data)(self, X, dtype=np.float32, order="C", copy=True, reset=reset)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        if tags.transformer_tags is not None:
            tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    @property
    def _n_features_out(self) -> int:
        return self.sae_.d_sae


class _Rows:
    """Batches of rows for `Trainer.fit`: each epoch in an order of its own, what fills no batch is left out of it."""

    def __init__(self, rows: torch.Tensor, size: int, seed: int) -> None:
        self._rows, self._size, self._seed = rows, size, seed
        self._given = 0

    def __next__(self) -> TokenBatch:
        epoch, batch = divmod(self._given, len(self._rows) // self._size)
        if batch == 0:
            self._order = self._shuffled(self._seed + epoch)
        self._given += 1
        return self._batch(self._order[batch * self._size : (batch + 1) * self._size])

    def sample(self, n: int, seed: int) -> TokenBatch:
        return self._batch(self._shuffled(seed)[:n])

    def state_dict(self) -> dict[str, int]:
        return {"given": self._given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._given = state["given"]
        self._order = self._shuffled(self._seed + self._given // (len(self._rows) // self._size))

    def _shuffled(self, seed: int) -> torch.Tensor:
        return torch.randperm(len(self._rows), generator=torch.Generator().manual_seed(seed))

    def _batch(self, chosen: torch.Tensor) -> TokenBatch:
        return TokenBatch(self._rows[chosen], torch.zeros(len(chosen), dtype=torch.int64))
