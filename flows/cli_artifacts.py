"""`thinkrec artifacts`: what the store holds, whether it is whole, where it came from, and what can go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.options import Json
from thinkrec_core.errors import StoreError

app = typer.Typer(help="Look into the artifact store.", no_args_is_help=True, rich_markup_mode=None)
Name = Annotated[
    str, typer.Argument(metavar="STAGE[/KEY]", help="A stage (its newest artifact) or the start of a key.")
]


@app.command("ls")
def list_artifacts(as_json: Json = False) -> None:
    """List all artifacts, oldest first."""
    from flows.output import Output
    from storage.catalog import size

    output = Output(as_json)
    found = [_row(folder, values) | {"bytes": size(folder)} for folder, values in _all()]
    for each in found:
        output.say(f"{each['stage']:<18} {each['key'][:12]}  {each['digest'][:12]}  {each['bytes'] / 1e6:10.2f} MB")
    output.result({"artifacts": found})


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """Print the manifest of one artifact."""
    import json

    from flows.output import Output

    folder, values = _one(name)
    output = Output(as_json)
    output.say(f"{folder}\n{json.dumps(values, indent=1, sort_keys=True)}")
    output.result({"path": str(folder), "manifest": values})


@app.command()
def verify(as_json: Json = False) -> None:
    """Read every artifact and compare it with its digest; damaged ones are set aside and built again by the next run."""
    from flows.output import Output
    from storage.home import store_root
    from storage.store import ArtifactStore

    output, root = Output(as_json), store_root()
    store = ArtifactStore(root)
    damaged, whole = [], 0
    for folder in sorted(path for path in (root / "artifacts").glob("*/*") if not path.name.startswith(".")):
        stage, key = folder.parent.name, folder.name
        with store.locked(stage, key):
            if store.find(stage, key) is None:
                damaged.append(f"{stage}/{key}")
                output.say(f"damaged, set aside: {stage}/{key}")
            else:
                whole += 1
    output.say(f"{whole} artifacts are whole, {len(damaged)} were damaged")
    output.result({"whole": whole, "damaged": damaged})
    if damaged:
        raise StoreError(f"{len(damaged)} artifacts were damaged and set aside", next_step="run again to rebuild them")


@app.command()
def lineage(name: Name, as_json: Json = False) -> None:
    """Show what an artifact was made from, down to the source."""
    from flows.output import Output

    output = Output(as_json)
    known = {(values["stage"], values["key"]): values for _, values in _all()}
    _, values = _one(name)

    def tree(values: dict[str, Any], depth: int) -> dict[str, Any]:
        output.say(f"{'  ' * depth}{values['stage']} {values['key'][:12]} (digest {values['digest'][:12]})")
        refs = [(ref["stage"], ref["key"]) for ref in values.get("parents", {}).values()]
        outside = {k: v for k, v in values.get("inputs", {}).items() if k not in values.get("parents", {})}
        for given, digest in outside.items():
            output.say(f"{'  ' * (depth + 1)}{given}: {digest[:12]} from outside the store")
        parents = [tree(known[ref], depth + 1) for ref in refs if ref in known]
        return {key: values[key] for key in ("stage", "key", "digest")} | {"outside": outside, "parents": parents}

    output.result(tree(values, 0))


@app.command()
def gc(
    keep_runs: Annotated[int, typer.Option(min=1, help="Newest finished runs whose artifacts stay.")] = 20,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it the list is only shown.")] = False,
    as_json: Json = False,
) -> None:
    """Remove artifacts that no kept run names, and old scratch; those of the last week stay."""
    from contextlib import nullcontext

    from flows.output import Output
    from storage.catalog import write_catalog
    from storage.home import store_root
    from storage.housekeeping import remove, waste
    from storage.store import ArtifactStore

    output, root = Output(as_json), store_root()
    store = ArtifactStore(root)
    with store.in_use(alone=True) if yes else nullcontext():
        found = waste(root, keep_runs)
        for each in found:
            output.say(f"{each.bytes / 1e6:10.2f} MB  {each.path.relative_to(root)}: {each.why}")
        total = sum(each.bytes for each in found)
        if yes and found:
            try:
                remove(store, found)
            except OSError as error:
                raise StoreError(
                    f"{root} cannot be changed ({error.strerror})", "a store that can be written"
                ) from None
            write_catalog(root)
    output.say(
        f"{'removed' if yes else 'would remove'} {len(found)}, {total / 1e6:.2f} MB" + ("" if yes else "; add --yes")
    )
    output.result({"removed": yes, "bytes": total, "paths": [str(each.path) for each in found]})


def _all() -> list[tuple[Path, dict[str, Any]]]:
    from storage.catalog import manifests
    from storage.home import store_root

    return sorted(manifests(store_root()), key=lambda pair: pair[0].stat().st_mtime)


def _one(name: str) -> tuple[Path, dict[str, Any]]:
    stage, _, key = name.partition("/")
    found = _all()
    chosen = [pair for pair in found if pair[1]["stage"] == stage and pair[1]["key"].startswith(key)]
    if not chosen:
        stages = sorted({values["stage"] for _, values in found})
        raise StoreError(f"no artifact {name}", f"one of the stages {', '.join(stages) or '(the store is empty)'}")
    return chosen[-1]


def _row(folder: Path, values: dict[str, Any]) -> dict[str, Any]:
    return {key: values.get(key) for key in ("stage", "key", "digest", "rows", "seconds")} | {"path": str(folder)}
