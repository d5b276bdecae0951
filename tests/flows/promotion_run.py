"""One tracked run of the preset `kill` without a Prefect server; prints its summary's decision and stages as JSON.

python tests/flows/promotion_run.py ROOT OVERRIDES
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.kill.attempts import PlainRun
from flows.config import load_config
from flows.run import open_run
from flows.thinkrec import pipeline
from storage.store import ArtifactStore


def main(overrides: dict[str, object]) -> None:
    """Run the pipeline in the store of $THINKREC_HOME."""
    config = load_config("kill", overrides)
    with open_run("kill", config, lambda _, root: ArtifactStore(root)) as run:
        summary = pipeline(PlainRun(run.name, run.preset, run.context, run.started))
    print(json.dumps({name: summary[name] for name in ("run", "promotion", "stages", "artifacts", "report")}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
