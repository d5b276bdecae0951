"""User clusters, expert adapters and the router (spec: section 5 of the method)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from thinkrec_core.config.base import Frozen
from thinkrec_core.config.training import OptimisationConfig


class RouterConfig(Frozen):
    """Gate weights w = softmax(cos(e_u, c_n) / temperature) and the rule that reads them."""

    temperature: float = Field(0.1, gt=0)
    mode: Literal["paper", "soft", "hard", "fusion"] = "paper"
    """`paper`: general, single expert or fusion by entropy and concentration. `soft`: always the fusion. `hard`: always the
    expert with the largest weight. `fusion`: as `paper`, but no single expert."""


class ParallelConfig(Frozen):
    """Where experts are trained, and how many at once. No result depends on it, if `training.engine.threads` is set."""

    runner: Literal["sequential", "threads", "ray", "dask"] = "sequential"
    """The Prefect task runner. `threads`: workers of this machine, side by side. `ray`, `dask`: on this machine or, with an
    address, on a cluster that shares the folder of the store; they need the extra of that name."""
    workers: int = Field(2, ge=1)
    """Trainings at once. On one machine they share its CPU threads."""
    address: str | None = None
    """Of a running Ray or Dask cluster; null starts one on this machine."""

    @model_validator(mode="after")
    def _only_a_cluster_has_an_address(self) -> Self:
        if self.address is not None and self.runner not in ("ray", "dask"):
            raise ValueError(f"address {self.address} with runner {self.runner}; an address is one of ray or dask")
        return self


class ExpertsConfig(Frozen):
    """How many experts, how users are clustered, and how the experts are trained."""

    count: int = Field(2, ge=1)
    """N; 1 means no experts: every user keeps the general adapter."""
    choose: Literal["count", "silhouette", "valid"] = "count"
    """How N is found. `count`: as given above. `silhouette`: the N with the best silhouette. `valid`: experts are trained for
    each N, and the N with the best score on valid rows is kept; experts of the same users are trained once."""
    max_count: int | None = Field(None, ge=2, le=50)
    """Largest N that `choose` looks at, from 2 (silhouette) or 1 (valid) on; null: 10 (silhouette) or 6 (valid)."""
    valid_rows: int | None = Field(1000, ge=2)
    """About this many valid rows, as whole users, on which `choose: valid` compares; null takes all."""
    clustering: Literal["ward", "kmeans", "minibatch"] = "ward"
    """`ward` and `kmeans` look at 10,000 users at most, the rest joins the nearest centroid; `minibatch` k-means at all."""
    space: Literal["zscore", "raw"] = "zscore"
    """Space of clusters, centroids and router. `raw` [compat] is the published centroid space."""
    last_layers: int = Field(8, ge=1)
    """Layers whose LoRA an expert trains; the lower ones stay equal to the general adapter's."""
    prompt: Literal["id", "text"] = "id"
    """`text` [compat] trains experts on the prompt that evaluation never uses."""
    min_rows: int = Field(16, ge=1)
    """A cluster with fewer train rows keeps the general adapter, and the report says so."""
    training: OptimisationConfig = OptimisationConfig(
        learning_rate=1e-5, min_learning_rate=0.0, warmup_learning_rate=1e-6, steps=24000
    )
    parallel: ParallelConfig = ParallelConfig()
    router: RouterConfig = RouterConfig()
    ablations: bool = True
    """Score the test rows with other routes too (general, single, fusion, soft, the published merge), for the report."""

    @property
    def candidates(self) -> tuple[int, ...]:
        """Every N that is looked at."""
        if self.choose == "silhouette":
            return tuple(range(2, (self.max_count or 10) + 1))
        return tuple(range(1, (self.max_count or 6) + 1)) if self.choose == "valid" else (self.count,)
