"""Who the teacher is, and which settings decide what it says: what the keys of its stages need, without the client library."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from storage.models import ResolvedModel, resolve_model
from thinkrec_core.config.reflections import JOURNAL, LOCAL, TeacherConfig
from thinkrec_core.config.root import ThinkRecConfig

OPERATIONAL = {
    "api_key_env",
    "attempts",
    "base_url",
    "ca_bundle",
    "concurrency",
    "extra_headers",
    "max_request_cost",
    "max_run_cost",
    "model",
    "port",
    "prices",
    "request_seconds",
    "requests_per_minute",
    "run_seconds",
    "startup_seconds",
    "timeout_seconds",
    "tokens_per_minute",
}
"""Fields of `teacher` that change how answers come, not which; of the model, its name in the journal counts."""

NOT_OF_A_DIALOGUE = {"max_failed_share", "max_trace_tokens", "min_accepted"}
"""Fields of `reflections` that change no dialogue."""
LOCAL_NAME = re.compile(r"@[0-9a-f]{16}$")
"""How the name of a local teacher ends: with the digest of its weights."""


@dataclass(frozen=True)
class Teacher:
    """Who answers: the name in the journal, and the model that a local server would load."""

    name: str
    model: ResolvedModel | None

    @property
    def is_local(self) -> bool:
        """True for the small model of this project, also where its answers come from a journal that was handed on."""
        return self.model is not None or LOCAL_NAME.search(self.name) is not None

    @classmethod
    def of(cls, config: TeacherConfig) -> Teacher:
        """The teacher that `config` names; the name of a local one holds the digest of its weights."""
        if config.base_url != LOCAL:
            return cls(config.model, None)
        model = resolve_model(config.model)
        return cls(f"{config.model}@{model.digest[:16]}", model)


def settings_of(config: ThinkRecConfig, teacher: Teacher) -> dict[str, Any]:
    """What of the configuration decides about the dialogues: the settings of a stage that holds some."""
    return {
        "seed": config.seed,
        "model": teacher.name,
        "asked": config.teacher.base_url != JOURNAL,
        "teacher": config.teacher.model_dump(mode="json", exclude=OPERATIONAL),
        "reflections": config.reflections.model_dump(mode="json", exclude=NOT_OF_A_DIALOGUE),
    }
