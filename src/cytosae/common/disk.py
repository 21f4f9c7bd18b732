"""Files on disk whole or not at all; a disk that takes no more is told in one sentence, whichever library met it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from cytosae.common.errors import ArtifactError, CytosaeError
from cytosae.common.unfinished import written_whole

TAKES_NO_MORE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
"""What a file system says to nobody but those who write."""


@contextmanager
def disk_errors(path: Path, codes: Collection[int] | None = TAKES_NO_MORE) -> Iterator[None]:
    """Turn what the file system says while ``path`` is written into an `ArtifactError`.

    Parameters
    ----------
    path : Path
        For the sentence.
    codes : collection of int or None
        The ``errno`` that are meant; None for every `OSError`, where nothing but writing is done.
    """
    try:
        yield
    except CytosaeError:
        raise
    except Exception as problem:
        code = _code(problem)
        if not (isinstance(problem, OSError) if codes is None else code in codes):
            raise
        reason = os.strerror(code) if code else " ".join(str(problem).split())
        raise ArtifactError(
            f"{path} could not be written ({reason}); make space or correct that, and run the same command again: what "
            "is finished is kept."
        ) from problem


def write_durably(file: Path, content: bytes) -> None:
    """Write beside, flush to disk, rename: the file is there whole or not at all."""
    with written_whole(file) as temporary, temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _code(problem: Exception) -> int | None:
    said = re.search(r"\(os error (\d+)\)", str(problem))  # as Rust writes it, for safetensors
    return int(said[1]) if said else getattr(problem, "errno", None)
