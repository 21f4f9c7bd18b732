"""Reading token stores for training: shuffled batches, the same again from any step."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from cytosae.common.artifact import digest
from cytosae.common.configuration import from_plain
from cytosae.common.errors import InputError, UsageError
from cytosae.tokens.config import ReaderConfig, Which
from cytosae.tokens.store.encoding import (
    Encoding,
    Floating,
    Planes,
    allocate,
    bytes_per_token,
    decode_serially,
    decoded,
    gather,
    memory_of,
)
from cytosae.tokens.store.shuffle import Order
from cytosae.tokens.store.token_store import TokenStore


class TokenBatch(NamedTuple):
    """Tokens and where in their images they stand.

    Attributes
    ----------
    tokens : Tensor, shape (N, D), float32
    positions : Tensor, shape (N,), int64
        0 is CLS, 1..P are patches row by row.
    """

    tokens: torch.Tensor
    positions: torch.Tensor


class ShuffledTokens(abc.ABC):
    """Endless iterator of `TokenBatch` over tokens that are shuffled pool by pool.

    Attributes
    ----------
    width, n_tokens : int
        D, and T of an image.
    batch_tokens : int
        Tokens of each batch.
    tokens_per_epoch : int
        Tokens of all ranks together.
    step : int
        Batches given so far.
    """

    batch_tokens: int
    tokens_per_epoch: int
    step: int

    def __init__(self, config: ReaderConfig, order: Order, encoding: Encoding, *, n_tokens: int, width: int) -> None:
        if order.rank_tokens == 0:
            raise InputError(f"There are too few tokens ({order.total}) for {order.ranks} ranks; use fewer ranks.")
        self.config = config
        self.width = width
        self.n_tokens = n_tokens
        self.batch_tokens = config.batch_tokens
        self.tokens_per_epoch = order.total
        self.step = 0
        self._order = order
        self._encoding = encoding
        self._first, self._chosen = selection(config.which, n_tokens)
        self._runs: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))
        self._pool: tuple[tuple[int, int], _Pool] | None = None
        self._ahead: tuple[tuple[int, int], Future[_Pool]] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="token-reader")

    def __iter__(self) -> Iterator[TokenBatch]:
        return self

    def __next__(self) -> TokenBatch:
        tokens = torch.empty(self.batch_tokens, self.width)
        positions = torch.empty(self.batch_tokens, dtype=torch.int64)
        done = 0
        while done < self.batch_tokens:
            epoch, index, place = self._order.find(self.step * self.batch_tokens + done)
            pool = self._pool_at(epoch, index)
            rows = pool.order[place : place + self.batch_tokens - done]
            end = done + len(rows)
            decode_serially(self._encoding, gather(pool.planes, rows), tokens[done:end])
            positions[done:end] = self._positions(pool.tokens[rows.numpy()])
            done = end
        self.step += 1
        return TokenBatch(tokens, positions)

    @property
    def epoch(self) -> int:
        """Whole epochs of this rank given so far."""
        return self.step * self.batch_tokens // self._order.rank_tokens

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on with the next batch: a few numbers."""
        return {"step": self.step, "order": self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the batch that followed when ``state`` was taken; only its pool is read.

        Raises
        ------
        InputError
            the tokens, the configuration or the number of ranks are not those of ``state``.
        """
        if state.get("order") != self._identity():
            raise InputError(
                "The interrupted training read other tokens or in another order (stores, reader settings, ranks); "
                "restore these or start the training again."
            )
        self.step = from_plain(int, state.get("step"), where="step")

    @abc.abstractmethod
    def sample(self, n: int, seed: int) -> TokenBatch:
        """At most ``n`` random tokens, each at most once, for statistics; the same for all ranks."""

    @abc.abstractmethod
    def _load(self, tokens: np.ndarray, into: Planes) -> None:
        """Read ``tokens``, ascending numbers in the line of all chosen tokens, into the first rows of ``into``."""

    def _positions(self, tokens: np.ndarray) -> torch.Tensor:
        """Where ``tokens`` of the line stand in their images."""
        return torch.from_numpy(self._first + tokens % self._chosen)

    @abc.abstractmethod
    def _source(self) -> list[str]:
        """Fingerprints of what the tokens come from."""

    def _identity(self) -> str:
        # The same for all ranks, so that one of them may keep it for all.
        order = dataclasses.replace(self._order, rank=0)
        return digest([order, self.config.which, self.batch_tokens, self._source()])

    def _pool_at(self, epoch: int, index: int) -> _Pool:
        wanted = (epoch, index)
        if self._pool is None or self._pool[0] != wanted:
            spare = None if self._pool is None else self._pool[1].planes
            self._pool = None
            ahead, self._ahead = self._ahead, None
            if ahead is not None and ahead[0] == wanted:
                pool = ahead[1].result()
            else:
                pool, spare = self._make(epoch, index, spare), None
            self._pool = (wanted, pool)
            following = (epoch, index + 1) if index + 1 < self._order.pools else (epoch + 1, 0)
            if self._order.pools > 1:
                self._ahead = (following, self._thread.submit(self._make, *following, spare))
        return self._pool[1]

    def _make(self, epoch: int, index: int, spare: Planes | None) -> _Pool:
        runs = self._runs
        if runs[0] != epoch:
            self._runs = runs = (epoch, self._order.epoch_runs(epoch))
        tokens = self._order.pool_tokens(runs[1], index)
        order = self._order.pool_order(epoch, index, len(tokens))
        # Memory of a pool that was given up is used again: fresh pages cost as much as what is read into them.
        room = spare or allocate(self._encoding, (self._order.largest_pool,), self.width)
        self._load(tokens, room)
        return _Pool(tokens, torch.from_numpy(order), room)


@dataclass(frozen=True)
class _Pool:
    tokens: np.ndarray  # [M] int64, ascending
    order: torch.Tensor  # [M] int64, rows in the order in which they are given
    planes: Planes  # M rows or more


class TokenReader(ShuffledTokens):
    """Shuffled batches from token stores; see `ShuffledTokens` for what it can do.

    Parameters
    ----------
    stores : list of TokenStore
        Of the same backbone; read as one. Of a `cytosae.tokens.FocusedStore` only the tokens that count are read.
    config : ReaderConfig or None
        Batch, selection, seed, memory.
    rank, ranks : int
        This process among those that share each epoch without overlap.

    Raises
    ------
    InputError
        no stores, or stores of different backbones, blocks or sizes of tokens.
    """

    stores: list[TokenStore]

    def __init__(
        self, stores: Sequence[TokenStore], config: ReaderConfig | None = None, *, rank: int = 0, ranks: int = 1
    ) -> None:
        config = config or ReaderConfig()
        _check_alike(stores)
        self.stores = list(stores)
        first = self.stores[0]
        n_tokens = first.n_tokens
        _, chosen = selection(config.which, n_tokens)
        self._listed = [_counted(store, config.which) for store in stores]
        sizes = [
            len(store) * chosen if own is None else len(own) for store, own in zip(stores, self._listed, strict=True)
        ]
        total = sum(sizes)
        encoding = first.encoding if len({store.dtype for store in stores}) == 1 else Floating(torch.float32)
        whole = total * bytes_per_token(encoding, first.width) <= config.memory_bytes
        run, pool = (1, total) if whole else (min(config.run_tokens, chosen), config.buffer_tokens)
        order = Order(total=total, run=run, pool=pool, seed=config.seed, rank=rank, ranks=ranks)
        super().__init__(config, order, encoding, n_tokens=n_tokens, width=first.width)
        self._starts = np.cumsum([0, *sizes])
        self._whole: Planes | None = None
        self._held = whole

    def sample(self, n: int, seed: int) -> TokenBatch:
        """At most ``n`` tokens drawn uniformly without replacement, in random order; the same for all ranks."""
        rng = np.random.default_rng(seed)
        chosen = np.sort(rng.choice(self.tokens_per_epoch, min(n, self.tokens_per_epoch), replace=False, shuffle=False))
        order = torch.from_numpy(rng.permutation(len(chosen)))
        if self._held:
            planes, rows = self._all(), torch.from_numpy(chosen)[order]
        else:
            planes, rows = allocate(self._encoding, (len(chosen),), self.width), order
            self._load(chosen, planes)
        tokens = decoded(self._encoding, gather(planes, rows))
        return TokenBatch(tokens, self._positions(chosen[order.numpy()]))

    def _source(self) -> list[str]:
        return [store.fingerprint for store in self.stores]

    def _positions(self, tokens: np.ndarray) -> torch.Tensor:
        if all(own is None for own in self._listed):
            return super()._positions(tokens)
        positions = np.empty(len(tokens), np.int64)
        of_store = np.searchsorted(self._starts, tokens, side="right") - 1
        for index in range(len(self.stores)):
            own = of_store == index
            positions[own] = self._stored(index, tokens[own]) % self.n_tokens
        return torch.from_numpy(positions)

    def _stored(self, index: int, tokens: np.ndarray) -> np.ndarray:
        """Tokens of the line that lie in store ``index``, numbered through that store."""
        own, listed = tokens - self._starts[index], self._listed[index]
        if listed is not None:
            return listed[own]
        return own // self._chosen * self.n_tokens + self._first + own % self._chosen

    def _make(self, epoch: int, index: int, spare: Planes | None) -> _Pool:
        if not self._held:
            return super()._make(epoch, index, spare)
        # Everything is in memory, in the order of the line: an epoch is an order of rows and reads nothing.
        order = torch.from_numpy(self._order.epoch_runs(epoch))
        return _Pool(np.arange(self.tokens_per_epoch), order, self._all())

    def _all(self) -> Planes:
        if self._whole is None:
            self._whole = allocate(self._encoding, (self.tokens_per_epoch,), self.width)
            self._load(np.arange(self.tokens_per_epoch), self._whole)
        return self._whole

    def _load(self, tokens: np.ndarray, into: Planes) -> None:
        memory = memory_of(into)
        borders = np.searchsorted(tokens, self._starts).tolist()
        for index, (store, at, end) in enumerate(zip(self.stores, borders, borders[1:], strict=False)):
            stored = self._stored(index, tokens[at:end])
            if store.encoding == self._encoding:
                store.read_stored(stored, memory, at=at)
            else:
                _read_decoded(store, stored, into["tokens"][at:end])


def _counted(store: TokenStore, which: Which) -> np.ndarray | None:
    """Those of the chosen tokens of a store that count, numbered through it, ascending; None for all."""
    if store.counted is None:
        return None
    first, chosen = selection(which, store.n_tokens)
    position = np.arange(store.n_tokens)
    return np.flatnonzero(store.counted & (position >= first) & (position < first + chosen))


def _read_decoded(store: TokenStore, tokens: np.ndarray, into: torch.Tensor) -> None:
    """Stores of different types are brought to float32, a piece at a time."""
    for first in range(0, len(tokens), 1 << 14):
        piece = tokens[first : first + (1 << 14)]
        stored = store.allocate(len(piece))
        store.read_stored(piece, memory_of(stored), at=0)
        store.encoding.decode(stored, into[first : first + len(piece)])


def selection(which: Which, n_tokens: int) -> tuple[int, int]:
    """First chosen position in an image, and how many follow from there."""
    choices = {"all": (0, n_tokens), "patches": (1, n_tokens - 1), "cls": (0, 1)}
    if which not in choices:
        raise UsageError(f"reader.which is {which!r}; choose one of: {', '.join(choices)}.")
    return choices[which]


def _check_alike(stores: Sequence[TokenStore]) -> None:
    if not stores:
        raise InputError("No token stores were given; name at least one data set.")
    facts = ("weights_hash", "backbone", "n_tokens", "width")
    for store in stores[1:]:
        for fact in facts:
            if store.manifest[fact] != stores[0].manifest[fact]:
                raise InputError(
                    f"{store.path} and {stores[0].path} differ in {fact.replace('_', ' ')}; extract both with the same "
                    "backbone to train on them together."
                )
