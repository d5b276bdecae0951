"""Seconds, rows per second and peak memory of fitting encoders on ML-1M's size and on five million rows; MF beside a plain loop.

    python benchmarks/encoders.py [--data PATH] [--rows 5000000]

PATH is a folder with the ML-1M benchmark split; without it, made-up rows of the same numbers of rows, users and items
stand in. Encoders run one epoch on the train rows, each in a process of its own; bias and stacker are fitted to the end.
mf_ratio is the plain loop's seconds over ours for one epoch of MF at the same size, batch and optimiser: nn.Embedding, a
shuffling DataLoader over a TensorDataset, Adam.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

THINKREC = [sys.executable, "-m", "flows.cli", "data"]
SMALL = ("bias", "stacker", "mf", "lightgcn", "sasrec", "din", "dcn")
LARGE = {"bias": {}, "mf": {"batch_size": 8192}, "lightgcn": {"batch_size": 262_144}}
"""Batches that a person would choose at this size: LightGCN smooths the whole graph in every step."""


def main() -> None:
    """Measure and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="ML-1M benchmark split")
    parser.add_argument("--rows", type=int, default=5_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = prepared(given.data or made(folder, 51_623, 838, 3_255), folder / "small", given.data)
        large = prepared(made(folder, given.rows, given.rows // 125, 12_000), folder / "large", None)
        found = {"ml1m": {kind: fitted(small, kind, {}) for kind in SMALL}}
        found["large"] = {kind: fitted(large, kind, changes) for kind, changes in LARGE.items()}
        plain = fitted(small, "plain", {})
        ours = fitted(small, "mf", {})
    print(
        json.dumps(
            {
                **{f"{kind}_{size}": figures for size, of in found.items() for kind, figures in of.items()},
                "mf_ratio": round(plain["seconds"] / ours["seconds"], 2),
                "plain_loop": plain,
                "mf_beside_it": ours,
                "data": "ML-1M" if given.data else "made up",
            }
        )
    )


def made(folder: Path, rows: int, users: int, items: int) -> str:
    """A synthetic source."""
    out = folder / f"made-{rows}"
    sizes = ["--users", str(users), "--items", str(items), "--rows", str(rows)]
    subprocess.run([*THINKREC, "synth", *sizes, "--out", str(out), "--json"], check=True, stdout=subprocess.DEVNULL)
    return str(out)


def prepared(source: str, out: Path, given: str | None) -> Path:
    """The samples of `source`; short histories for the made-up ones, which nothing at that size reads."""
    split = ["data.split=given"] if given else ["data.split=global"]
    settings = [word for field in [*split, "data.history=liked", "data.max_history=25"] for word in ("--set", field)]
    command = [*THINKREC, "prepare", source, *settings, "--out", str(out), "--json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return out


def fitted(folder: Path, kind: str, changes: dict[str, Any]) -> dict[str, Any]:
    """What `--fit` prints in a process of its own."""
    command = [sys.executable, __file__, "--fit", str(folder), kind, json.dumps(changes)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"{folder.name:<6} {kind:<9} {found}", file=sys.stderr)
    return dict(found)


def fit(folder: Path, kind: str, changes: dict[str, Any]) -> dict[str, Any]:
    """One epoch of `kind` (or the whole fit of bias or stacker) on the train rows of `folder`."""
    from storage.encoder_data import read_content, read_examples, read_sizes
    from thinkrec_core.config.ladder import BiasConfig, LadderConfig
    from thinkrec_core.encoders.bias import fit_bias

    train, sizes = read_examples(folder / "samples_train.parquet"), read_sizes(folder)
    if kind == "bias":
        content = read_content(folder)
        start = time.monotonic()
        fit_bias(BiasConfig(), train.user_idx, train.item_idx, train.label, content, sizes)
    elif kind == "stacker":
        start = _stacker(folder, train, sizes)
    else:
        from thinkrec_core.encoders.fit import fit_epochs

        config = getattr(LadderConfig(), "mf" if kind == "plain" else kind).model_copy(update=changes)
        if kind == "plain":
            config = config.model_copy(update={"biases": False})
            start = time.monotonic()
            _plain_epoch(train, sizes, config)
        else:
            if kind == "mf" and not changes:
                config = config.model_copy(update={"biases": False})
            start = time.monotonic()
            fit_epochs(config, train, sizes, 1, 0, "benchmark")
    seconds = time.monotonic() - start
    return {
        "seconds": round(seconds, 3),
        "rows_per_s": round(len(train) / seconds),
        "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def _stacker(folder: Path, train: Any, sizes: Any) -> float:
    """Fit item effects and booster under liked histories; returns when that began."""
    from storage.encoder_data import read_content
    from storage.schemas import SAMPLES
    from storage.tables import read_table
    from thinkrec_core.config.ladder import LadderConfig
    from thinkrec_core.encoders.stacker import StackerFeatures, TimedExamples, boosted_logits
    from thinkrec_core.seeds import generator

    content, config = read_content(folder), LadderConfig()
    time_of = read_table(folder / "samples_train.parquet", SAMPLES, ["timestamp"]).column(0).to_numpy()
    start = time.monotonic()
    draw = generator(0, "stacker")
    timed = TimedExamples(train, time_of)
    made = StackerFeatures(config.stacker, config.bias, timed, content, sizes, False, draw)
    boosted_logits(config.stacker, *made.train(), [], 0)
    return start


def _plain_epoch(train: Any, sizes: Any, config: Any) -> None:
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    users = nn.Embedding(sizes.users + 1, config.embedding_size)
    items = nn.Embedding(sizes.items + 1, config.embedding_size)
    optimiser = torch.optim.Adam(
        [*users.parameters(), *items.parameters()], lr=config.learning_rate, weight_decay=config.weight_decay
    )
    rows = TensorDataset(*(torch.from_numpy(column) for column in (train.user_idx, train.item_idx, train.label)))
    for user_B, item_B, label_B in DataLoader(rows, batch_size=config.batch_size, shuffle=True):
        scores_B = (users(user_B) * items(item_B)).sum(-1)
        loss = nn.functional.binary_cross_entropy_with_logits(scores_B, label_B.float())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--fit"]:
        print(json.dumps(fit(Path(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4]))))
    else:
        main()
