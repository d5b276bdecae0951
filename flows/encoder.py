"""The CF encoder of a run, with the prior of its LLM beside it where that is another method."""

from __future__ import annotations

from flows.run import Run
from storage.store import ArtifactRef
from tasks.fit_prior import fit_llm_prior
from tasks.train_encoder import train_encoder


def encoded(run: Run, data: ArtifactRef, start: ArtifactRef | None = None) -> ArtifactRef:
    """The encoder's artifact, extended by stage `prior` under `training.prior` bias or stacker."""
    encoder = run(train_encoder, data, start)
    kind = run.context.config.training.prior
    return run(fit_llm_prior, data, encoder, kind) if kind in ("bias", "stacker") else encoder
