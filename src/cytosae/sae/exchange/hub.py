"""SAEs on the Hugging Face hub, or any server with its interface: push on request, pull with checksums.

A repository holds ``model.safetensors`` (weights), ``config.json`` (readable without torch), ``artifact.json`` (what it
was made from, and the SHA-256 of the two) and ``README.md`` (the model card). Nothing is ever unpickled, and nothing
leaves the machine unless `push_sae` is called.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from cytosae.common.artifact import RECORD, Artifact, read_artifact
from cytosae.common.cache import is_offline
from cytosae.common.configuration import to_plain
from cytosae.common.errors import ArtifactError, InputError, WeightsError
from cytosae.common.records import write_json
from cytosae.sae.exchange.checkpoint import CONFIG, WEIGHTS, save_sae
from cytosae.sae.exchange.model_card import CardFacts, model_card
from cytosae.sae.model.autoencoder import SparseAutoencoder

CARD = "README.md"
MESSAGE = "Upload a sparse autoencoder with cytosae"
PUBLIC_DETAILS = ("fingerprint", "backbone", "block", "source_sha256", "weights_hash")
"""Details that go along; the rest of an artifact's details (names of files, places) stays on the machine."""


def push_sae(
    source: str | Path | SparseAutoencoder,
    repo_id: str,
    *,
    visibility: str = "private",
    revision: str | None = None,
    licence: str | None = None,
    facts: CardFacts | None = None,
    token: str | None = None,
    endpoint: str | None = None,
) -> str:
    """Upload an SAE to ``repo_id`` and return the address of the commit.

    Parameters
    ----------
    source : str or Path or SparseAutoencoder
        An SAE artifact (directory), whose checksums are verified first, or an SAE in memory.
    repo_id : str
        "owner/name"; made if it does not exist.
    visibility : str
        Of a repository that is made: "private" or "public".
    revision : str or None
        Branch to write to, "main" by default.
    licence : str or None
        Identifier for the model card (``apache-2.0``, ``cc-by-nc-4.0``, ...), left out by default.
    facts : CardFacts or None
        What the study that made it knows of data, controls and failures, for the model card.
    token : str or None
        Of the hub; by default the one that ``hf auth login`` has stored.
    endpoint : str or None
        Address of the server, by default the hub's (or ``HF_ENDPOINT``).

    Raises
    ------
    WeightsError
        if the server refuses or cannot be reached.
    """
    if visibility not in ("private", "public"):
        raise InputError(f"visibility is {visibility!r}; choose one of: private, public.")
    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary) / "staged"
        artifact = _stage(source, Path(temporary), staged)
        card = model_card(artifact, repo_id, licence=licence, facts=facts)
        (staged / CARD).write_text(card, encoding="utf-8")
        with _hub_errors(repo_id, "pushed to"):
            api = HfApi(endpoint=endpoint, token=token, library_name="cytosae")
            api.create_repo(repo_id, private=visibility == "private", exist_ok=True)
            commit = api.upload_folder(
                repo_id=repo_id, folder_path=staged, commit_message=MESSAGE, revision=revision, repo_type="model"
            )
    return str(commit.commit_url)


def pull_sae(
    repo_id: str,
    *,
    revision: str | None = None,
    out: str | Path | None = None,
    token: str | None = None,
    endpoint: str | None = None,
) -> Path:
    """Download an SAE, verify its checksums and return the directory of the artifact.

    Parameters
    ----------
    repo_id : str
        "owner/name".
    revision : str or None
        Branch, tag or commit; "main" by default. A commit pins the very bytes.
    out : str or Path or None
        Directory to put it into, which must not exist yet; by default the hub's cache, which serves offline too.

    Raises
    ------
    WeightsError
        if the server cannot be reached, or the repository holds no SAE of cytosae, or one that differs from its record.
    """
    if out is not None and Path(out).exists():
        raise InputError(f"{out} exists already; give a new directory to pull into.")
    with _hub_errors(repo_id, "pulled from"):
        # only these three names are ever fetched, whatever else the repository holds
        snapshot = Path(
            snapshot_download(
                repo_id,
                revision=revision,
                allow_patterns=[WEIGHTS, CONFIG, RECORD],
                token=token,
                endpoint=endpoint,
                library_name="cytosae",
                local_files_only=is_offline(),
            )
        )
    _verify(snapshot, repo_id)
    if out is None:
        return snapshot
    Path(out).mkdir(parents=True)
    for name in (WEIGHTS, CONFIG, RECORD):
        shutil.copyfile(snapshot / name, Path(out) / name)
    return Path(out)


def _stage(source: str | Path | SparseAutoencoder, temporary: Path, staged: Path) -> Artifact:
    """Copy what is to be shared, with a record of just these files."""
    if isinstance(source, SparseAutoencoder):
        save_sae(source, temporary / "sae")
        source = temporary / "sae"
    artifact = read_artifact(Path(source), "sae")
    staged.mkdir()
    for name in (WEIGHTS, CONFIG):
        shutil.copyfile(artifact.path / name, staged / name)
    record = to_plain(artifact)
    kept = {name: value for name, value in artifact.details.items() if name in PUBLIC_DETAILS}
    files = {name: artifact.files[name] for name in (WEIGHTS, CONFIG)}
    record = {**record, "files": files, "details": kept}
    write_json(staged / RECORD, {key: value for key, value in record.items() if key not in ("type", "path")})
    return read_artifact(staged, "sae")


def _verify(path: Path, repo_id: str) -> None:
    try:
        artifact = read_artifact(path, "sae")
    except ArtifactError as problem:
        raise WeightsError(
            f"{repo_id} is no intact SAE of cytosae ({problem}); ask its owner, or pull again."
        ) from problem
    if set(artifact.files) != {WEIGHTS, CONFIG}:
        raise WeightsError(
            f"{repo_id} records other files than {WEIGHTS} and {CONFIG}; ask its owner to push it again."
        )


@contextmanager
def _hub_errors(repo_id: str, done: str) -> Iterator[None]:
    """Turn what the hub's client raises into one sentence."""
    # of the HTTP client: requests, httpx or httpx2, by version
    http_error = cast("type[Exception]", HfHubHTTPError.__mro__[1])
    try:
        yield
    except (OSError, ValueError, http_error) as problem:
        reason = " ".join(str(problem).split())[:300]
        raise WeightsError(
            f"{repo_id} cannot be {done} the hub ({type(problem).__name__}: {reason}); check the name, the network and "
            "`hf auth whoami`."
        ) from problem
