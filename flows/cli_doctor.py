"""`thinkrec doctor`: is everything there that a run needs?"""

from __future__ import annotations

from typing import Annotated

import typer

from flows.options import Assignments, ConfigFile, Json, PresetName
from thinkrec_core.errors import PlatformError


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("doctor")(doctor)


def doctor(
    preset: PresetName = "quickstart",
    config: ConfigFile = None,
    assignments: Assignments = None,
    mend: Annotated[bool, typer.Option("--mend", help="Remove leftovers and crash runs without a worker.")] = False,
    as_json: Json = False,
) -> None:
    """Check store, disk, GPU, teacher, servers and what dead runs left."""
    from dataclasses import asdict

    from deployments.doctor import examine
    from flows.config import resolve, user_layers
    from flows.output import Output
    from storage.home import store_root

    teacher = resolve(preset, user_layers(config, assignments or [])).teacher
    output = Output(as_json)
    found = examine(store_root(), teacher, mend)
    for each in found:
        remedy = f" -> {each.remedy}" if each.remedy else ""
        output.say(f"{'ok  ' if each.fine else 'BAD '} {each.name:<15} {each.found}{remedy}")
    bad = [each.name for each in found if not each.fine]
    output.result({"fine": not bad, "findings": [asdict(each) for each in found]})
    if bad:
        raise PlatformError(f"{', '.join(bad)} need attention", next_step="see the remedies above")
