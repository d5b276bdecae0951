"""The whole configuration of a run."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from thinkrec_core.config.base import Frozen
from thinkrec_core.config.data import DataConfig
from thinkrec_core.config.encoder import EncoderConfig
from thinkrec_core.config.evaluation import EvaluationConfig
from thinkrec_core.config.experts import ExpertsConfig
from thinkrec_core.config.explanations import ExplanationsConfig
from thinkrec_core.config.ladder import LadderConfig
from thinkrec_core.config.llm import LLMConfig
from thinkrec_core.config.reflections import ReflectionsConfig, TeacherConfig, WrongPredictionsConfig
from thinkrec_core.config.rerun import RerunConfig
from thinkrec_core.config.training import OptimisationConfig, TrainingConfig


class ThinkRecConfig(Frozen):
    """Every choice of a run. Order of precedence: defaults < preset < --config FILE < --set field=value."""

    seed: int = 7
    data: DataConfig = DataConfig()
    encoder: EncoderConfig = EncoderConfig()
    llm: LLMConfig = LLMConfig()
    wrong_predictions: WrongPredictionsConfig = WrongPredictionsConfig()
    warm_start: OptimisationConfig = OptimisationConfig()
    """Training W of the `warm_start` student: LoRA, then the projector, each for these steps."""
    teacher: TeacherConfig = TeacherConfig()
    reflections: ReflectionsConfig = ReflectionsConfig()
    training: TrainingConfig = TrainingConfig()
    experts: ExpertsConfig = ExpertsConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    explanations: ExplanationsConfig = ExplanationsConfig()
    """`thinkrec explanations`: the student's reasons beside the teacher's."""
    rerun: RerunConfig = RerunConfig()
    """Warm start from the model in use, and promotion."""
    ladder: LadderConfig = LadderConfig()
    """`thinkrec ladder`: methods without a language model on all test rows."""

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        if self.evaluation.floor not in self.evaluation.rungs:
            raise ValueError(f"evaluation.floor {self.evaluation.floor} is not among evaluation.rungs")
        if self.evaluation.floor == "stacker" and self.training.prior != "stacker":
            raise ValueError(
                f"evaluation.floor is stacker and training.prior {self.training.prior}; the stacker is fitted as prior only"
            )
        if self.llm.max_history > self.data.max_history:
            raise ValueError(f"llm.max_history {self.llm.max_history} exceeds data.max_history {self.data.max_history}")
        if self.training.schedule == "text" and self.experts.prompt != "text":
            raise ValueError(
                "training.schedule text scores text prompts and experts.prompt is id; set experts.prompt=text"
            )
        for name in ("training", "warm_start"):
            batch = getattr(self, name).batch_size
            ranks = self.training.engine.world_size * getattr(self, name).accumulation
            if batch % ranks:
                raise ValueError(f"{name}.batch_size {batch} is not a multiple of world_size x accumulation {ranks}")
        return self
