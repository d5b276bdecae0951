"""`thinkrec models` and `thinkrec promote`: what is registered, which version is in use, and how to change that by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.options import Json

VersionName = Annotated[
    str, typer.Argument(metavar="VERSION", help="MODEL/NUMBER, MODEL@candidate, or candidate if there is one model.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("models")(models_command)
    app.command("promote")(promote_command)


def models_command(as_json: Json = False) -> None:
    """List the registered models: versions, decisions, and which one is champion."""
    from flows.output import Output
    from storage.home import store_root
    from storage.model_registry import ModelRegistry

    output = Output(as_json)
    found = ModelRegistry.opened(store_root()).versions()
    for each in found:
        aliases = ", ".join(each.aliases)
        told = f"{each.facts.get('decision', 'undecided')}: {each.facts.get('reason', 'its run was interrupted')}"
        output.say(f"{each.name:<28} {aliases:<20} {each.run}\n    {told}")
    rows = [
        {"version": each.name, "aliases": list(each.aliases), "run": each.run}
        | {name: each.facts.get(name) for name in ("decision", "reason", "base_model", "digest")}
        for each in found
    ]
    output.result({"models": rows})


def promote_command(version: VersionName, as_json: Json = False) -> None:
    """Make a registered version the champion by hand, an earlier one too."""
    from flows.notify import notify
    from flows.output import Output
    from storage.home import store_root
    from storage.model_registry import CHAMPION, ModelRegistry, named_version

    output = Output(as_json)
    registry = ModelRegistry.opened(store_root())
    with registry.deciding():
        chosen = named_version(registry, version)
        before = registry.holder(chosen.model, CHAMPION)
        registry.folder(chosen)  # a version whose bundle is gone would serve nobody
        registry.promote(chosen)
    was = before.name if before else None
    notify("promoted", run=chosen.run, model=chosen.model, version=chosen.number, reason="by hand")
    output.say(f"{chosen.name} is champion now" + (f"; before, it was {was}" if was and was != chosen.name else ""))
    output.result({"model": chosen.model, "champion": chosen.name, "before": was})
