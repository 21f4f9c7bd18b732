"""``cytosae model``: backbones and SAEs that come from elsewhere or go there."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

from cytosae.cli.output import Json, Output

model_app: App = App(name="model", help="Backbones and SAEs: list, import, export, push and pull.")


@model_app.command(name="list")
def list_models(*, as_json: Json = False) -> None:
    """List the backbones: what they are, where their weights come from, and under which licence."""
    from cytosae.backbones import REGISTRY

    output = Output(as_json=as_json)
    columns = ("name", "width", "depth", "weights", "licence")
    rows = [(entry.name, entry.width, entry.depth, entry.origin, entry.licence) for entry in REGISTRY.values()]
    output.table(columns, rows)
    output.result(backbones=[dict(zip(columns, row, strict=True)) for row in rows])
    output.finish()


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
    """Upload an SAE to the Hugging Face hub, with a model card made from its record.

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
    address = push_sae(sae, repo, visibility="public" if public else "private", licence=licence, revision=revision)
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
