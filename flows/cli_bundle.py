"""`thinkrec bundle export|import|mlflow`, and how commands find the bundle that they are told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.options import Json

if TYPE_CHECKING:
    from storage.bundle import Bundle

app = typer.Typer(help="Trained recommenders as one folder or tar.", no_args_is_help=True)

RunName = Annotated[str, typer.Argument(metavar="RUN", help="Name of a finished run, or the path of its JSON summary.")]
OutPath = Annotated[Path, typer.Option("--out", "-o", help="New folder, or a new file that ends with .tar.")]
Source = Annotated[Path, typer.Argument(help="A bundle: folder or tar.")]
FolderOut = Annotated[Path, typer.Option("--out", "-o", help="New folder.")]
BundleName = Annotated[
    str | None, typer.Option("--bundle", "-b", help="Folder of a bundle, a run (by default the newest), or champion.")
]


@app.command("export")
def export_command(run: RunName, out: OutPath, as_json: Json = False) -> None:
    """Write what is needed to use a run's recommender."""
    from flows.output import Output
    from storage.bundle import export_bundle
    from storage.home import store_root
    from storage.run_comparison import read_summary

    root, output = store_root(), Output(as_json)
    summary = read_summary(root, run)
    export_bundle(root, summary, out)
    output.say(f"the bundle of {summary['run']} is in {out}")
    output.result({"run": summary["run"], "out": str(out)})


@app.command("import")
def import_command(source: Source, out: OutPath, as_json: Json = False) -> None:
    """Verify a bundle and unpack it; safetensors, Parquet and JSON only."""
    from flows.output import Output
    from storage.bundle import import_bundle

    output = Output(as_json)
    bundle = import_bundle(source, out)
    output.say(f"the bundle of {bundle.run} is in {out}; {len(bundle.facts['files'])} files verified")
    output.result({"run": bundle.run, "out": str(out), "files": len(bundle.facts["files"])})


@app.command("mlflow")
def mlflow_command(out: FolderOut, bundle: BundleName = None, as_json: Json = False) -> None:
    """Write a bundle as a model that MLflow loads and serves (python_function), without a pickle."""
    from flows.output import Output
    from tasks.mlflow_model import write_mlflow_model

    output, found = Output(as_json), find_bundle(bundle)
    write_mlflow_model(found, out)
    output.say(f"the bundle of {found.run} is in {out}; mlflow models serve -m {out} --env-manager local")
    output.result({"run": found.run, "out": str(out)})


def find_bundle(given: str | None) -> Bundle:
    """The verified bundle in the folder that `locate_bundle` finds."""
    from storage.bundle import open_bundle

    return open_bundle(locate_bundle(given))


def locate_bundle(given: str | None) -> Path:
    """The folder of the bundle at a path, of a registered version (champion, MODEL@champion, MODEL/3), or of a run.

    That of a run is kept under bundles/ in the store and exported when first asked for.

    Raises:
        DataError: there is no such path or run.
    """
    import json

    from storage.bundle import export_bundle
    from storage.home import runs_folder, store_root
    from storage.model_registry import bundle_folder
    from storage.run_comparison import read_summary
    from thinkrec_core.errors import DataError

    root = store_root()
    if given is not None and Path(given).is_dir():
        return Path(given)
    if given is not None and (registered := bundle_folder(root, given)) is not None:
        return registered
    if given is not None and given.endswith(".tar"):
        raise DataError(f"--bundle {given} is a tar", "a folder", f"thinkrec bundle import {given} --out FOLDER")
    if given is None:
        finished = [each for each in runs_folder(root).glob("*.json") if each.stat().st_size]
        trained = [each for each in finished if "general" in json.loads(each.read_text()).get("artifacts", {})]
        if not trained:
            raise DataError(f"no finished run in {root}", "a run of thinkrec run, or --bundle PATH")
        given = max(trained, key=lambda each: (each.stat().st_mtime, each.name)).stem
    summary = read_summary(root, given)
    folder = root / "bundles" / summary["run"]
    if not folder.is_dir():
        export_bundle(root, summary, folder)
    return folder
