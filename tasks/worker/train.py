"""The training worker: `python -m tasks.worker.train JOB.json`, one process per rank.

Phases run one after the other in this process; each resumes from its last checkpoint below the job's scratch folder. The best
weights of a phase, by the named valid score, are where the next phase starts and what is written at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from storage.crash_points import reached
from storage.disk_faults import disk_faults
from storage.durable import write_whole
from storage.language_model import save_trained
from tasks.worker.build import Workbench, load_state, open_workbench, save_state
from tasks.worker.engine import DeepSpeedEngine
from tasks.worker.hidden_cache import HiddenCache
from tasks.worker.job import EVENTS, FAILURE, FINISHED, TrainingJob
from tasks.worker.parameters import cast_frozen
from tasks.worker.phases import PhasePlan, phases_of
from tasks.worker.torch_engine import TorchEngine
from thinkrec_core.config.training import EngineConfig, OptimisationConfig
from thinkrec_core.errors import ThinkRecError, TrainingError
from thinkrec_core.recllm.adapters import train_only
from thinkrec_core.recllm.depth import can_split
from thinkrec_core.recllm.model import RecLLM
from thinkrec_core.recllm.objective import ObjectiveWeights
from thinkrec_core.recllm.plan import BatchPlan
from thinkrec_core.recllm.selection import choose_weight, valid_figures
from thinkrec_core.recllm.sharing import score_shared
from thinkrec_core.recllm.training import Hooks, LoopState, Phase, run_phase

VALIDATION_BATCH = {"cpu": 16, "cuda": 128}
LLM_WEIGHT = "llm_weight"
"""Of a validation record: the factor on the LLM logit that was best on these rows."""
HIDDEN = "hidden"
"""Below the folder of a phase: hidden states under the trained layers, gone when the phase has ended."""


def main() -> int:
    """Train the job named on the command line; exit code 2 for a user's mistake, told in failure.json."""
    job = TrainingJob.model_validate_json(Path(sys.argv[1]).read_text())
    try:
        with disk_faults(f"stage {job.stage}", job.scratch):
            run_job(job)
    except ThinkRecError as error:
        failure = {"type": type(error).__name__, "args": [error.found, error.expected, error.next_step]}
        with contextlib.suppress(OSError):  # a full disk takes no word either: the run finds that out itself
            write_whole(job.scratch / FAILURE, json.dumps(failure))
        return 2
    return 0


def run_job(job: TrainingJob) -> None:
    """Run every phase of `job` and write its artifact."""
    engine_config = job.config.training.engine
    rank = int(os.environ.setdefault("RANK", "0"))
    for name, value in {"WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}.items():
        os.environ.setdefault(name, value)
    ranks = int(os.environ["WORLD_SIZE"])
    torch.set_num_threads(engine_config.threads or max(1, (os.cpu_count() or 1) // (ranks * job.sharers)))
    device, dtype = device_and_dtype(job.config.llm.dtype)
    bench = open_workbench(job)
    reached(f"{job.stage}/worker.opened")
    if engine_config.gradient_checkpointing:
        bench.model.causal.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    report: dict[str, Any] = {"phases": {}}
    for phase in phases_of(job):
        state = _run(job, bench, phase, rank, device, dtype)
        report["phases"][phase.name] = {
            "steps": state.step,
            "best_step": state.best_step,
            "best_score": state.best_score,
        }
    report |= report["phases"][phase.name]
    report |= {
        "select_by": job.config.training.select_by,
        "train_rows": len(bench.recommendation_rows),
        "reasoning_rows": len(bench.reasoning_rows),
        "cut_traces": bench.cut_traces,
        "dtype": str(dtype).removeprefix("torch."),
        "world_size": ranks,
    }
    if rank == 0:
        if _chooses_weight(job):
            report[LLM_WEIGHT] = _weight_at(job.scratch / EVENTS, phase.name, report["best_step"])
            bench.settings["score"]["scale"] *= report[LLM_WEIGHT]
        bench.model.cpu()
        save_trained(job.output, bench.model.lm, bench.model.projector, bench.settings)  # type: ignore[arg-type]
        (job.output / "training.json").write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")
        _write_losses(job.scratch / EVENTS, job.output / "losses.jsonl")
        write_whole(job.scratch / FINISHED, "{}")
        reached(f"{job.stage}/worker.saved")


def _chooses_weight(job: TrainingJob) -> bool:
    """Experts keep the weight of the general adapter: one model answers for all users."""
    return job.config.training.llm_weight == "valid" and job.kind == "general"


def _weight_at(events: Path, phase: str, step: int) -> float:
    """The weight of the LLM that validation chose at `step` of `phase`."""
    for line in events.read_text().splitlines():
        values = json.loads(line)
        if "valid" in values and (values["phase"], values["step"]) == (phase, step):
            return float(values["valid"][LLM_WEIGHT])
    raise TrainingError(
        f"no validation at step {step} of {phase} in {events}", next_step="remove its folder, run again"
    )


def device_and_dtype(wanted: str) -> tuple[torch.device, torch.dtype]:
    """This rank's device, and the body's type: `auto` is bf16 where the hardware computes it, else fp32."""
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
        able = torch.cuda.is_bf16_supported()
    else:
        device = torch.device("cpu")
        able = bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    choice = {"fp32": torch.float32, "bf16": torch.bfloat16, "auto": torch.bfloat16 if able else torch.float32}
    return device, choice[wanted]


def _run(
    job: TrainingJob, bench: Workbench, plan: PhasePlan, rank: int, device: torch.device, dtype: torch.dtype
) -> LoopState:
    folder = job.scratch / plan.name
    folder.mkdir(exist_ok=True)
    model, optimisation, training = bench.model, plan.optimisation, job.config.training
    best_file = folder / "best.safetensors"
    if (folder / FINISHED).is_file():
        load_state(model, best_file)
        return LoopState.from_dict(json.loads((folder / FINISHED).read_text()))
    cast_frozen(model, torch.float32)
    layers = model.causal.config.num_hidden_layers
    depth = max(0, layers - plan.last_layers) if plan.last_layers else 0
    train_only(model.lm, plan.lora, depth)  # type: ignore[arg-type]
    model.projector.requires_grad_(plan.projector)
    engine = _engine(model, training.engine, optimisation, dtype, device)
    state = engine.resume(folder)
    model.train()
    if not plan.lora:
        model.lm.eval()  # a frozen adapter without dropout
    for layer in model.causal.base_model.layers[:depth] if depth else ():
        layer.eval()
    steps = BatchPlan(
        job.config.seed,
        f"{job.kind}/{plan.name}/{bench.group}",
        bench.recommendation_rows,
        bench.reasoning_rows,
        optimisation.batch_size,
        optimisation.steps,
        plan.reasoning_probability,
        bench.lengths(plan.prompt) if training.engine.length_pool > 1 else None,
        training.engine.length_pool,
    )
    objective = training.objective
    weights = ObjectiveWeights(objective.alpha, objective.beta, objective.theta, objective.gamma)
    phase = Phase(
        name=plan.name,
        seed=job.config.seed,
        plan=steps,
        weights=weights,
        schedules=plan.schedules,
        validate_every=optimisation.validate_every,
        checkpoint_every=training.engine.checkpoint_every,
        patience=optimisation.patience,
    )
    valid = bench.valid(plan.prompt)
    events = job.scratch / EVENTS
    if rank == 0:
        _rewind(events, plan.name, state.step)

    def validate() -> dict[str, float | None]:
        mode = [module.training for module in model.modules()]
        # Scores that choose a checkpoint are fp32 on a CPU: bf16 noise there is a third of their spread.
        exact = device.type == "cpu" and training.engine.zero_stage < 3
        if exact:
            cast_frozen(model, torch.float32)
        scores = score_shared(model, valid, bench.pad_id, VALIDATION_BATCH[device.type])
        if exact:
            cast_frozen(model, dtype)
        for module, flag in zip(model.modules(), mode, strict=True):
            module.training = flag
        users, labels = [example.user for example in valid], [example.label for example in valid]
        if not _chooses_weight(job):
            return valid_figures(users, labels, scores, training.select_by)
        prior = np.array([example.prior for example in valid])
        weight = choose_weight(users, labels, prior, scores - prior, training.select_by)
        figures = valid_figures(users, labels, prior + weight * (scores - prior), training.select_by)
        return {**figures, LLM_WEIGHT: weight}

    def record(values: dict[str, Any]) -> None:
        if rank == 0:
            with events.open("a") as handle:
                handle.write(json.dumps(values) + "\n")
        reached(f"{job.stage}/{plan.name}.{'validated' if 'valid' in values else 'stepped'}")

    def keep_best(_: LoopState) -> None:
        with engine.whole_weights():  # all ranks: gathering is collective
            if rank == 0:
                save_state(model, best_file)
        reached(f"{job.stage}/{plan.name}.improved")

    def checkpoint(now: LoopState) -> None:
        reached(f"{job.stage}/{plan.name}.checkpoint")
        engine.save(folder, now)

    hooks = Hooks(record, keep_best, checkpoint)
    state = run_phase(
        engine,
        phase,
        lambda row, kind: bench.make(row, kind, plan.prompt),
        bench.pad_id,
        model.projector.n_tokens,
        validate,
        hooks,
        state,
        _kept_states(model, training.engine, folder, depth, bench.pad_id),
    )
    engine.close()
    shutil.rmtree(folder / HIDDEN, ignore_errors=True)
    load_state(model, best_file)
    if rank == 0:
        write_whole(folder / FINISHED, json.dumps(state.as_dict()))
    reached(f"{job.stage}/{plan.name}.finished")
    return state


def _kept_states(model: RecLLM, config: EngineConfig, folder: Path, depth: int, pad_id: int) -> HiddenCache | None:
    """The cache of hidden states below `depth`, where the body can be split; ZeRO-3 holds no whole layer to compute them with."""
    if not depth or not config.hidden_cache_gb or config.zero_stage == 3 or not can_split(model.causal.base_model):
        return None
    return HiddenCache(folder / HIDDEN, model, depth, pad_id, config.hidden_cache_gb)


def _engine(
    model: RecLLM, config: EngineConfig, optimisation: OptimisationConfig, dtype: torch.dtype, device: torch.device
) -> DeepSpeedEngine | TorchEngine:
    if config.backend == "torch":
        return TorchEngine(model, optimisation.accumulation, optimisation.weight_decay, dtype, device)
    micro = optimisation.batch_size // (int(os.environ["WORLD_SIZE"]) * optimisation.accumulation)
    return DeepSpeedEngine(model, config, optimisation.accumulation, micro, optimisation.weight_decay, dtype, device)


def _rewind(events: Path, phase: str, step: int) -> None:
    """Drop records at or after `step` of `phase`: the resumed run writes them again.

    The file is replaced, not rewritten: whoever follows it sees by its inode that it is another one.
    """
    if not events.is_file():
        return
    kept = []
    for line in events.read_text().splitlines():
        try:
            values = json.loads(line)
        except json.JSONDecodeError:
            break  # the torn last line of a killed run
        # A validation record at `step` was written before the checkpoint of that step; a training record after it.
        if values["phase"] != phase or values["step"] < step or ("valid" in values and values["step"] <= step):
            kept.append(line)
    write_whole(events, "".join(line + "\n" for line in kept))


def _write_losses(events: Path, target: Path) -> None:
    """The records without their speed, which differs between equal runs."""
    records = [json.loads(line) for line in events.read_text().splitlines()]
    for values in records:
        values.pop("speed", None)
    target.write_text("".join(json.dumps(values) + "\n" for values in records))


if __name__ == "__main__":
    sys.exit(main())
