"""What `cytosae explore` can be told; computes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cytosae.common.errors import UsageError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  told apart, not bound
"""Addresses that stand for all of a machine's own, and are none under which it is reached."""


@Parameter(name="*")
@dataclass(frozen=True)
class ExplorerSettings:
    """What is served, where, and within which limits.

    Attributes
    ----------
    study : Path or None
        Folder of a finished study; None where ``atlas`` is given.
    atlas : Path or None
        An atlas by itself, such as that of the published model.
    images : Path or None
        Folder of the images of that atlas, where they are no longer where they were.
    beside : tuple of Path
        Further studies or atlases (FILE.h5ad), such as that of the published model, to compare with.
    host : str
        Address to listen on; any other than this machine's own needs ``accounts`` or ``proxy``.
    answer_to : tuple of str
        Names under which browsers reach this server beside ``host``, such as that of the machine; others are refused.
    port : int
        Port to listen on, 0 for any that is free.
    reviews_url : str or None
        Database of the reviews as an SQLAlchemy URL, None for ``reviews.sqlite`` in the study.
    accounts : Path or None
        File of accounts (`cytosae explore accounts`), None for one reader who needs no password.
    proxy : str or None
        Host name under which a reverse proxy with TLS, which knows its users, serves this.
    upload_bytes : int
        Largest file that may be dropped in.
    upload_pixels : int
        Most pixels of an image that is dropped in.
    thumbnail_bytes : int
        Most that pictures of cells may take in memory.
    """

    study: Annotated[Path | None, Parameter(parse=False)] = None
    atlas: Path | None = None
    images: Path | None = None
    beside: tuple[Path, ...] = ()
    host: str = "127.0.0.1"
    answer_to: tuple[str, ...] = ()
    port: int = 8765
    reviews_url: str | None = None
    accounts: Path | None = None
    proxy: str | None = None
    upload_bytes: int = 16 << 20
    upload_pixels: int = 32_000_000
    thumbnail_bytes: int = 128 << 20

    def check(self) -> None:
        """Refuse what cannot be served, or not safely."""
        if (self.study is None) == (self.atlas is None):
            raise UsageError("name either a STUDY or an atlas: cytosae explore STUDY, or explore --atlas FILE.h5ad.")
        if self.images and self.atlas is None:
            raise UsageError("--images are those of an --atlas; a study knows where its images are.")
        for path in self.beside:
            if not path.exists():
                raise UsageError(f"{path}, given by --beside, does not exist; name a study or an atlas FILE.h5ad.")
        if not 0 <= self.port < 1 << 16:
            raise UsageError(f"port is {self.port}; give 0 to 65535.")
        if self.host not in LOOPBACK and self.accounts is None and self.proxy is None:
            raise UsageError(
                f"{self.host} can be reached from other machines; give --accounts FILE of accounts, "
                "or --proxy HOST if a reverse proxy with TLS stands in front."
            )
