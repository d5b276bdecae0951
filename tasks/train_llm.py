"""Stages `warm_start`, `general` and `expert_<n>`: each is one DeepSpeed worker, started, watched and logged from here."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from storage.crash_points import reached
from storage.durable import write_whole
from storage.models import ResolvedModel, resolve_model
from storage.rec_data import users_digest
from storage.store import ArtifactRef, Draft
from storage.tracking import StageTracker
from tasks.processes import Child
from tasks.stage import RunContext, run_stage
from tasks.worker.job import EVENTS, FAILURE, TrainingJob
from tasks.worker.phases import phases_of
from thinkrec_core import errors

if TYPE_CHECKING:
    # Runs in a process of its own and loads torch there; named here since its code is part of these stages' keys.
    from tasks.worker import train as _worker  # noqa: F401

POLL_SECONDS = 0.5
_RESUMES = "run again: it resumes from the last checkpoint"


@task(name="warm_start", cache_policy=NO_CACHE)
def train_warm_start(
    context: RunContext, data: ArtifactRef, encoder: ArtifactRef, start: ArtifactRef | None = None
) -> ArtifactRef | State[ArtifactRef]:
    """The artifact of training W: stages 1 and 2 on recommendation batches, the student whose mistakes are collected.

    Args:
        start: adapter and projector of an earlier model to start from.
    """
    inputs = {"data": data, "encoder": encoder}
    return _train(context, "warm_start", "warm_start", inputs | ({"start_from": start} if start else {}))


@task(name="general", cache_policy=NO_CACHE)
def train_general(
    context: RunContext,
    data: ArtifactRef,
    encoder: ArtifactRef,
    reflections: ArtifactRef,
    warm_start: ArtifactRef | None = None,
) -> ArtifactRef | State[ArtifactRef]:
    """The artifact with the general adapter, the projector, losses.jsonl and training.json (G1 and G2, or joint).

    Args:
        warm_start: adapter and projector to start from: those of training W, or of an earlier model (stage `start`).
    """
    inputs = {"data": data, "encoder": encoder, "reflections": reflections}
    if warm_start is not None:
        inputs["start_from"] = warm_start
    return _train(context, "general", "general", inputs)


@task(name="expert", cache_policy=NO_CACHE)
def train_expert(
    context: RunContext,
    data: ArtifactRef,
    encoder: ArtifactRef,
    reflections: ArtifactRef | None,
    general: ArtifactRef,
    clusters: ArtifactRef,
    index: int,
    label: str = "",
) -> ArtifactRef | State[ArtifactRef]:
    """The artifact of one expert: the general adapter with its last layers trained on the users of cluster `index`.

    Its key holds who these users are, not the number or the rest of the partition: the same users have one expert, whatever
    clusters stand beside theirs.

    Args:
        reflections: None trains without reasoning batches.
        label: what the run calls it; expert_<index> if empty.
    """
    inputs = {"data": data, "encoder": encoder, "start_from": general, "clusters": clusters}
    if reflections is not None:
        inputs["reflections"] = reflections
    return _train(context, "expert", label or f"expert_{index}", inputs, index)


def _train(
    context: RunContext,
    kind: str,
    label: str,
    inputs: dict[str, ArtifactRef],
    cluster: int | None = None,
) -> ArtifactRef | State[ArtifactRef]:
    config = context.config
    base = resolve_model(config.llm.model)

    def build(draft: Draft, tracker: StageTracker) -> None:
        job = _job(context, kind, base, inputs, cluster, draft)
        tracker.dataset(job.data / "samples_train.parquet", "samples_train", inputs["data"].digest, "training")
        try:
            _run_worker(context, label, job, tracker, [draft.lock])
        except BaseException:
            if context.stop is not None:
                context.stop.set()
            raise
        training = json.loads((draft.path / "training.json").read_text())
        best = training["best_score"]
        tracker.metrics({"best_score": best, "best_step": training["best_step"], "train_rows": training["train_rows"]})
        tracker.artifact(draft.path / "training.json")
        shutil.copy(job.scratch / EVENTS, draft.telemetry / EVENTS)
        shutil.copy(job.scratch / "worker.log", draft.telemetry / "worker.log")
        draft.manifest |= {"rows": training["train_rows"], "seed": config.seed}

    settings: dict[str, Any] = {
        "seed": config.seed,
        "llm": config.llm.model_dump(mode="json", exclude={"model"}),
        "training": config.training,
        "history": config.data.history,
        "max_trace_tokens": config.reflections.max_trace_tokens,
    }
    if kind == "warm_start":
        settings["warm_start"] = config.warm_start
    parts = {}
    if cluster is not None:
        # Of the clusters an expert reads who its users are: another router or partition trains no expert again.
        parts["clusters"] = users_digest(context.store.path(inputs["clusters"]), cluster)
        # What the general training was told is in its artifact; of `training` an expert uses only these.
        settings["training"] = config.training.model_dump(
            mode="json", include={"objective", "prior", "select_by", "valid_rows", "engine", "schedule"}
        )
        settings |= {
            "expert": config.experts.training,
            "last_layers": config.experts.last_layers,
            "prompt": config.experts.prompt,
        }
    return run_stage(
        context, kind, build, inputs={**inputs, "model": base.digest}, settings=settings, parts=parts, label=label
    )


def _job(
    context: RunContext,
    kind: str,
    base: ResolvedModel,
    inputs: dict[str, ArtifactRef],
    cluster: int | None,
    draft: Draft,
) -> TrainingJob:
    folders = {name: context.store.path(ref).resolve() for name, ref in inputs.items()}
    return TrainingJob(
        kind=kind,
        config=context.config,
        model=base.path,
        data=folders["data"],
        encoder=folders["encoder"],
        reflections=folders.get("reflections"),
        start_from=folders.get("start_from"),
        clusters=folders.get("clusters"),
        cluster=cluster,
        sharers=context.sharers,
        output=draft.path.resolve(),
        scratch=draft.scratch.resolve(),
    )


def _run_worker(
    context: RunContext, label: str, job: TrainingJob, tracker: StageTracker, held: Sequence[int] = ()
) -> None:
    """Run the worker to its end, showing its progress and logging its records.

    Args:
        held: locks that the worker keeps should this process be killed.

    Raises:
        ThinkRecError: what the worker found wrong.
        TrainingError: the worker stopped without saying why.
        OSError: the disk takes nothing more.
    """
    spec = job.scratch / "job.json"
    spec.write_text(job.model_dump_json(indent=1))
    (job.scratch / FAILURE).unlink(missing_ok=True)
    total = sum(phase.optimisation.steps for phase in phases_of(job))
    tail = _Tail(job.scratch / EVENTS, tracker)
    log = job.scratch / "worker.log"
    with (
        context.view.progress(f"training {label}", total) as advance,
        Child.start(_command(job, spec), log, _env(), held) as child,
    ):
        reached(f"{label}/worker.started")
        while (code := child.poll()) is None:
            tail.read()
            advance(completed=tail.steps, note=tail.note)
            if context.stop is not None and context.stop.is_set():
                raise errors.TrainingError(
                    f"the training of {label} was stopped, since one beside it failed", next_step=_RESUMES
                )
            time.sleep(POLL_SECONDS)
        tail.read()
    reached(f"{label}/worker.ended")
    if code == 0:
        return
    failure = job.scratch / FAILURE
    if failure.is_file():
        told = json.loads(failure.read_text())
        raise getattr(errors, told["type"])(*told["args"])
    # A worker that the disk stopped may have been unable to say so; then the disk tells this process the same.
    write_whole(job.scratch / FAILURE, "{}")
    raise errors.TrainingError(
        f"the training worker of {label} stopped with exit code {code} ({_last_line(log)})",
        next_step=_advice(log, job) + f"; log: {log}",
    )


class _Tail:
    """Reads new records of a growing events file and logs them to MLflow.

    A worker that resumes puts a shorter file in the place of the old one: then reading starts again, and what was seen is skipped.
    """

    def __init__(self, path: Path, tracker: StageTracker) -> None:
        self._path, self._tracker, self._offset, self._inode = path, tracker, 0, -1
        self.steps, self.note = 0, ""
        self._seen: set[tuple[str, int, bool]] = set()

    def read(self) -> None:
        if not self._path.is_file():
            return
        with self._path.open("rb") as handle:
            inode = os.fstat(handle.fileno()).st_ino
            if inode != self._inode:
                self._inode, self._offset = inode, 0
            handle.seek(self._offset)
            lines = handle.readlines()
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()  # half a line: next time
        self._offset += sum(map(len, lines))
        points: list[tuple[str, float, int]] = []
        for line in lines:
            values = json.loads(line)
            mark = (values["phase"], values["step"], "valid" in values)
            if mark not in self._seen:
                self._seen.add(mark)
                points += self._points(values)
        if points:
            self._tracker.metric_batch(points)

    def _points(self, values: dict[str, Any]) -> list[tuple[str, float, int]]:
        phase, step = values["phase"], values["step"]
        if "valid" in values:
            self.note = f"valid {values['valid']['score']:.4f}"
            return [(f"{phase}/valid_{k}", v, step) for k, v in values["valid"].items() if v is not None]
        self.steps += 1
        named = {"loss": values["loss"], "bce": values["bce"], "ce": values["ce"], **values.get("speed", {})}
        named["learning_rate"] = values["learning_rate"]
        return [(f"{phase}/{values['kind']}_{name}", float(value), step) for name, value in named.items()]


def _command(job: TrainingJob, spec: Path) -> list[str]:
    ranks = job.config.training.engine.world_size
    if ranks == 1:
        return [sys.executable, "-m", "tasks.worker.train", str(spec)]
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}"]
    return [*torchrun, f"--master-port={_free_port()}", "-m", "tasks.worker.train", str(spec)]


def _env() -> dict[str, str]:
    """The environment of the worker: nothing leaves the machine, and the packages are found from any folder."""
    package_root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(part for part in (package_root, os.environ.get("PYTHONPATH", "")) if part)
    return {
        **os.environ,
        "PYTHONPATH": path,
        "HF_HUB_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        # Spinning threads of two programs on the same cores slow both twentyfold; sleeping ones share fairly.
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "MASTER_PORT": str(_free_port()),
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no output"


def _advice(log: Path, job: TrainingJob) -> str:
    text = log.read_text(errors="replace")
    if "out of memory" in text or "DefaultCPUAllocator" in text:
        return "lower training.batch_size or raise training.accumulation, or set training.engine.gradient_checkpointing"
    return _RESUMES
