"""The data of a run, as every flow begins: prepared, its weaknesses told, and where it is asked for with condensed keywords."""

from __future__ import annotations

import json

from flows.run import Run
from storage.store import ArtifactRef
from tasks.condense_keywords import condense_keywords
from tasks.prepare_data import prepare_data
from thinkrec_core.report.data_words import warnings


def prepared(run: Run) -> ArtifactRef:
    """The data artifact of the run's configuration.

    The warnings of the data report are told here and not by the stage, so that a run that finds it in the store tells
    them too.
    """
    data = run(prepare_data)
    statistics = json.loads((run.context.store.path(data) / "statistics.json").read_text(encoding="utf-8"))
    for warning in warnings(statistics):
        run.context.view.say(f"  warning            {warning}")
    return run(condense_keywords, data) if run.context.config.data.keywords == "teacher" else data
