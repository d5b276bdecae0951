"""User clusters, expert adapters and the router (spec: section 5 of the method)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from thinkrec_core.config.base import Frozen
from thinkrec_core.config.training import OptimisationConfig


class RouterConfig(Frozen):
    """Gate weights w = softmax(cos(e_u, c_n) / temperature) and the rule that reads them."""

    temperature: float = Field(0.1, gt=0)
    mode: Literal["paper", "soft"] = "paper"
    """`paper`: general, single expert or fusion by entropy and concentration. `soft`: always the fusion."""


class ExpertsConfig(Frozen):
    """How many experts, how users are clustered, and how the experts are trained."""

    count: int = Field(2, ge=1)
    """N; 1 means no experts: every user keeps the general adapter."""
    choose: Literal["count", "silhouette"] = "count"
    """How N is found. `count`: as given above. `silhouette`: the N with the best silhouette."""
    max_count: int | None = Field(None, ge=2, le=50)
    """Largest N that `choose: silhouette` looks at, from 2 on; null: 10."""
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
    router: RouterConfig = RouterConfig()

    @property
    def candidates(self) -> tuple[int, ...]:
        """Every N that is looked at."""
        if self.choose == "silhouette":
            return tuple(range(2, (self.max_count or 10) + 1))
        return (self.count,)
