"""``cytosae model``: backbones and SAEs that come from elsewhere or go there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App

from cytosae.cli.fetching import Yes, confirm, file_rows, pinned_line
from cytosae.cli.output import Json, Output

if TYPE_CHECKING:
    from cytosae.common.artifact import Artifact
    from cytosae.common.remote_files import RemoteFile
    from cytosae.sae.exchange.model_card import CardFacts

model_app: App = App(name="model", help="Backbones and SAEs: list, fetch, import, export, push, pull, model cards.")


@model_app.command(name="list")
def list_models(*, as_json: Json = False) -> None:
    """List the backbones and published SAEs: where their weights come from, licence, and whether they are here.

    A checksum that nobody publishes is pinned at the first download.
    """
    from cytosae.backbones import REGISTRY
    from cytosae.backbones.fetched_weights import find_weights
    from cytosae.sae.exchange.published_saes import SAES

    output = Output(as_json=as_json)
    columns = ("name", "width", "depth", "weights", "licence")
    rows = [(entry.name, entry.width, entry.depth, entry.origin, entry.licence) for entry in REGISTRY.values()]
    here = ["comes with cytosae" if not e.record else find_weights(e) or "" for e in REGISTRY.values()]
    output.table((*columns, "here"), [(*row, place) for row, place in zip(rows, here, strict=True)])
    for entry in REGISTRY.values():
        if entry.hub:
            output.line(f"  {entry.name} in timm's format: --backbone.name timm:hf-hub:{entry.hub}")
    output.table(
        ("SAE", "tokens of", "latents", "weights", "licence"),
        [(sae.name, sae.backbone, sae.d_sae, sae.origin, sae.licence) for sae in SAES.values()],
    )
    output.line("Fetch one: cytosae model fetch NAME")
    output.result(
        backbones=[
            {**dict(zip(columns, row, strict=True)), "sha256": dict(entry.sha256), "here": place, "hub": entry.hub}
            for row, entry, place in zip(rows, REGISTRY.values(), here, strict=True)
        ],
        saes=list(SAES.values()),
    )
    output.finish()


@model_app.command(name="fetch")
def fetch_model(name: str, out: Path | None = None, /, *, yes: Yes = False, as_json: Json = False) -> None:
    """Fetch published weights of `cytosae model list`; size, licence and free disk are shown before anything starts.

    What came is opened: every key and shape of a backbone must be its own, and an SAE must have the published width. A
    fetched backbone is found by its name afterwards (`--backbone.name dinobloom-b`). With CYTOSAE_OFFLINE=1 nothing is
    asked of the network.

    Parameters
    ----------
    name
        A backbone (dinobloom-b), cytosae (the SAE of the paper), timm:MODEL, or owner/name of an SAE on the hub.
    out
        Folder for an SAE; by default one in the cache (CYTOSAE_CACHE), or that of the hub. Backbones lie in the cache.
    """
    from cytosae.backbones import REGISTRY

    output = Output(as_json=as_json)
    if name in REGISTRY:
        _fetch_backbone(output, name, yes=yes)
    elif ":" in name:
        from cytosae.backbones import load_backbone

        output.line(f"{name} is here: {load_backbone(name).describe()['source']}.")
    elif "/" in name:
        from cytosae.sae.exchange.hub import pull_sae

        repo, _, revision = name.partition("@")
        path = pull_sae(repo, revision=revision or None, out=out)
        output.line(f"{name} is now at {path}; its checksums are right.")
        output.result(path=path)
    else:
        _fetch_sae(output, name, out, yes=yes)
    output.finish()


def _fetch_backbone(output: Output, name: str, *, yes: bool) -> None:
    from cytosae.backbones import REGISTRY, load_backbone
    from cytosae.backbones.fetched_weights import find_weights, remote_weights, weights_folder
    from cytosae.common.download import download

    entry = REGISTRY[name]
    place = find_weights(entry)
    if place is None:
        file = remote_weights(entry)
        _ask(output, f"{name} ({entry.origin}; {entry.licence}; {entry.reference})", file, weights_folder(), yes=yes)
        got = download(file, weights_folder())
        output.line(pinned_line([file.name] if got.pinned else []))
        place = got.path
    backbone = load_backbone(name, place)
    output.line(f"{name} is at {place}: every key and shape is its own, weights {backbone.weights_hash[:12]}.")
    output.result(path=place, weights_hash=backbone.weights_hash, licence=entry.licence)


def _fetch_sae(output: Output, name: str, out: Path | None, *, yes: bool) -> None:
    from cytosae.common.artifact import read_artifact
    from cytosae.common.cache import cache_folder
    from cytosae.common.listings import with_sizes
    from cytosae.sae.exchange.published_saes import fetch_published, fetched_folder, published_sae

    entry, file = published_sae(name), None
    out = out or fetched_folder(entry)
    if not (cache_folder() / "weights" / entry.file.name).is_file():
        (file,) = with_sizes([entry.file])
        _ask(output, f"{name}, {entry.title} ({entry.origin}; licence: {entry.licence})", file, out, yes=yes)
    got = fetch_published(entry, out, file=file)
    output.line(pinned_line([entry.file.name] if got.pinned else []))
    fingerprint = read_artifact(out, "sae").fingerprint
    output.line(f"{name} is at {out}: {entry.d_sae:,} latents on tokens of {entry.backbone}, {fingerprint[:12]}.")
    output.result(path=out, fingerprint=fingerprint, licence=entry.licence, pinned=got.pinned)


def _ask(output: Output, what: str, file: RemoteFile, place: Path, *, yes: bool) -> None:
    output.line(what)
    output.table(["file", "size", "checksum"], file_rows([file]))
    there = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
    confirm(output, file.size, shutil.disk_usage(there).free, place, yes=yes)


@model_app.command(name="card")
def show_card(
    sae: Path,
    out: Path | None = None,
    /,
    *,
    name: str = "owner/name",
    licence: str | None = None,
    as_json: Json = False,
) -> None:
    """Write the model card of an SAE from its record, and from the study that it lies in: the card that `push` uploads.

    It says what the SAE was made from and under which licences, its recipe, metrics beside controls, known failures and
    intended use. Images of your own are counted and not named.

    Parameters
    ----------
    sae
        The SAE (a folder; `STUDY/sae` knows most).
    out
        File to write to; without it the card is printed.
    name
        owner/name under which it is to be shared.
    licence
        Identifier of the hub, e.g. apache-2.0.
    """
    from cytosae.common.disk import disk_errors, write_durably
    from cytosae.sae.exchange.model_card import model_card

    output = Output(as_json=as_json)
    card = model_card(_record_of(sae), name, licence=licence, facts=_facts_of(sae))
    if out is None:
        output.line(card)
    else:
        with disk_errors(out, None):
            write_durably(out, card.encode())
        output.line(f"The model card of {sae} is {out}.")
    output.result(card=card, path=out)
    output.finish()


def _record_of(sae: Path) -> Artifact:
    from cytosae.common.artifact import read_artifact

    return read_artifact(sae, "sae")


def _facts_of(sae: Path) -> CardFacts | None:
    """What the study knows that an SAE lies in."""
    study = sae.absolute().parent
    if sae.name != "sae" or not (study / "study.toml").is_file():
        return None
    from cytosae.pipeline import Study
    from cytosae.pipeline.card_facts import gather_card_facts

    return gather_card_facts(Study(study))


@model_app.command(name="import")
def import_model(source: Path, /, out: Path, *, backbone: str | None = None, as_json: Json = False) -> None:
    """Convert an SAE of the published code (.pt) or of SAELens (a folder) into a cytosae SAE.

    A `.pt` file is a pickle: it is read with a restricted reader that refuses every name beyond the few that such a
    file needs, and executes nothing of it.

    Parameters
    ----------
    source
        The `.pt` file or the SAELens folder.
    out
        Folder to write the SAE to.
    backbone
        Name of the backbone that its tokens come from, where the file does not say.
    """
    from cytosae.common.artifact import hash_file, read_artifact
    from cytosae.sae import save_sae
    from cytosae.sae.exchange.published import import_published
    from cytosae.sae.exchange.saelens import import_saelens

    output = Output(as_json=as_json)
    if source.is_dir():
        details = {"backbone": backbone} if backbone else {}
        weights = (
            hash_file(source / "sae_weights.safetensors") if (source / "sae_weights.safetensors").is_file() else ""
        )
        save_sae(import_saelens(source), out, inputs={"saelens": weights}, details=details)
    else:
        import_published(source, out, backbone=backbone)
    artifact = read_artifact(out, "sae")
    output.line(f"{source} is now the SAE {out} (fingerprint {artifact.fingerprint[:12]}).")
    output.result(path=out, fingerprint=artifact.fingerprint, details=artifact.details)
    output.finish()


@model_app.command(name="export")
def export_model(sae: Path, /, out: Path, *, as_json: Json = False) -> None:
    """Write an SAE in the format of SAELens (cfg.json and sae_weights.safetensors).

    Parameters
    ----------
    sae
        A cytosae SAE (a folder), or anything else that `load_sae` reads.
    out
        Folder to write to.
    """
    from cytosae.sae import load_sae
    from cytosae.sae.exchange.saelens import export_saelens

    output = Output(as_json=as_json)
    export_saelens(load_sae(sae), out)
    output.line(f"{sae} is now also at {out}, in the format of SAELens.")
    output.result(path=out)
    output.finish()


@model_app.command(name="push")
def push_model(
    sae: Path,
    repo: str,
    /,
    *,
    public: bool = False,
    licence: str | None = None,
    revision: str | None = None,
    as_json: Json = False,
) -> None:
    """Upload an SAE to the Hugging Face hub, with its model card (`cytosae model card`).

    Parameters
    ----------
    sae
        The SAE (a folder).
    repo
        owner/name; made if it is not there.
    public
        Make a new repository public instead of private.
    licence
        Identifier for the model card, e.g. apache-2.0.
    revision
        Branch to write to.
    """
    from cytosae.sae.exchange.hub import push_sae

    output = Output(as_json=as_json)
    address = push_sae(
        sae,
        repo,
        visibility="public" if public else "private",
        licence=licence,
        revision=revision,
        facts=_facts_of(sae),
    )
    output.line(f"{sae} is now at {address}.")
    output.result(address=address)
    output.finish()


@model_app.command(name="pull")
def pull_model(repo: str, out: Path, /, *, revision: str | None = None, as_json: Json = False) -> None:
    """Download an SAE from the Hugging Face hub and verify its checksums.

    Parameters
    ----------
    repo
        owner/name.
    out
        New folder to put it into.
    revision
        Branch, tag or commit.
    """
    from cytosae.sae.exchange.hub import pull_sae

    output = Output(as_json=as_json)
    path = pull_sae(repo, revision=revision, out=out)
    output.line(f"{repo} is now at {path}; its checksums are right.")
    output.result(path=path)
    output.finish()
