"""The order in which tokens are read: a pure function of the seed, so that any step can be found again at once.

All tokens of an epoch stand in one line and are cut into *runs* of R neighbours. The runs are put in random order and
dealt to *pools* of about equal size; a pool fits in memory and is put in random order token by token. Epochs follow
each other without a break: batches are equally large, and every token comes once an epoch.

How mixed that is: let a pool have M of N tokens, and an image T. Of the b - 1 other tokens of a batch from one pool,
the expected number from the same image as a given token is

    (b - 1) ((R - 1) + (T - R) (M - R) / (N - R)) / (M - 1)        (for runs within one image)

against (b - 1) (T - 1) / (N - 1) for a random order of all tokens, to which it is equal for R = 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Order:
    """Order of reading of one rank.

    Attributes
    ----------
    total : int
        Tokens of all ranks.
    run : int
        R, tokens that are read together.
    pool : int
        Tokens of a pool, at most.
    seed, rank, ranks : int
        Ranks of one seed share each epoch without overlap.
    """

    total: int
    run: int
    pool: int
    seed: int
    rank: int
    ranks: int

    @property
    def runs(self) -> int:
        """Whole runs of all ranks."""
        return self.total // self.run

    @property
    def rank_runs(self) -> int:
        """Whole runs of this rank."""
        return len(range(self.rank, self.runs, self.ranks))

    @property
    def tail(self) -> int:
        """Tokens after the last whole run; the last rank has them in its last pool."""
        return self.total - self.runs * self.run if self.rank == self.ranks - 1 else 0

    @property
    def rank_tokens(self) -> int:
        """Tokens of this rank in an epoch."""
        return self.rank_runs * self.run + self.tail

    @property
    def pools(self) -> int:
        """Pools of an epoch, sizes equal to within one run."""
        return max(1, -(-self.rank_runs // max(1, self.pool // self.run)))

    @property
    def largest_pool(self) -> int:
        """Tokens that no pool has more of."""
        return -(-self.rank_runs // self.pools) * self.run + self.tail

    def pool_start(self, index: int) -> int:
        """Place of the pool's first token in the epoch of this rank; ``index`` = `pools` gives the epoch's end."""
        return self.rank_tokens if index == self.pools else self._first_run(index) * self.run

    def find(self, token: int) -> tuple[int, int, int]:
        """Epoch, pool, and place in the pool of this rank's ``token``-th token since the beginning."""
        epoch, place = divmod(token, self.rank_tokens)
        low, high = 0, self.pools - 1
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.pool_start(middle) <= place else (low, middle - 1)
        return epoch, low, place - self.pool_start(low)

    def epoch_runs(self, epoch: int) -> np.ndarray:
        """This rank's runs in the order of ``epoch``: [rank_runs] int64."""
        order = np.random.default_rng([self.seed, epoch, 0]).permutation(self.runs)
        return order[self.rank :: self.ranks]

    def pool_tokens(self, runs: np.ndarray, index: int) -> np.ndarray:
        """Tokens of pool ``index`` in ascending order, ``runs`` being the epoch's: [M] int64."""
        chosen = np.sort(runs[self._first_run(index) : self._first_run(index + 1)])
        tokens = (chosen[:, None] * self.run + np.arange(self.run)).ravel()
        if index == self.pools - 1 and self.tail:
            tokens = np.concatenate([tokens, np.arange(self.total - self.tail, self.total)])
        return tokens

    def pool_order(self, epoch: int, index: int, size: int) -> np.ndarray:
        """Random order of the ``size`` tokens of a pool: [size] int64."""
        return np.random.default_rng([self.seed, epoch, 1 + self.rank, index]).permutation(size)

    def _first_run(self, index: int) -> int:
        return index * self.rank_runs // self.pools


def extents(tokens: np.ndarray) -> list[tuple[int, int]]:
    """Cut ascending numbers into stretches [start, stop) of consecutive ones."""
    if not len(tokens):
        return []
    if tokens[-1] - tokens[0] == len(tokens) - 1:  # most often: some rows of a store
        return [(int(tokens[0]), int(tokens[-1]) + 1)]
    breaks = np.flatnonzero(np.diff(tokens) != 1) + 1
    starts = tokens[np.concatenate([[0], breaks])]
    stops = tokens[np.concatenate([breaks - 1, [len(tokens) - 1]])] + 1
    return list(zip(starts.tolist(), stops.tolist(), strict=True))
