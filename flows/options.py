"""Options that several commands of the command line share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object, and nothing else.")]
PresetName = Annotated[str, typer.Option("--preset", "-p", help="Name of a preset; see `thinkrec presets`.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", "-c", help="YAML file of fields on top of the preset.")]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", "-s", help="One field: training.learning_rate=2e-4. Can be repeated.")
]
