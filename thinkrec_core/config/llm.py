"""The language model, its prompts, soft tokens and adapters (spec: section 3 of the method)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from thinkrec_core.config.base import Frozen


class LoRAConfig(Frozen):
    """Low-rank adapters: W x + (alpha / rank) B A x."""

    rank: int = Field(8, ge=1)
    alpha: float = Field(16, gt=0)
    dropout: float = Field(0.05, ge=0, lt=1)
    target_modules: tuple[str, ...] = ("q_proj", "v_proj")


ProjectorInputs = Literal["vectors_and_scalars", "vectors", "out_of_fold"]


class ProjectorConfig(Frozen):
    """The 2-layer map from the encoder's space into the token space of the LM."""

    multiplier: int = Field(10, ge=1)
    """m in Linear d -> m*d, ReLU, Linear m*d -> hidden * n_tokens."""

    n_tokens: int = Field(1, ge=1)
    """Soft tokens per vector."""

    inputs: ProjectorInputs = "vectors_and_scalars"
    """What a soft token is made from: the encoder's vector and the scalars of the sample (biases, out-of-fold logit, counts,
    share of likes); `vectors` alone, as in the paper; or `out_of_fold`, the three scalars that a train row's own label had no
    part in (out-of-fold logit, share of likes, length of the history). Vectors and biases were fitted on the train rows, so
    trainings of an epoch and more read labels back from them: choose `out_of_fold` there."""


class LLMConfig(Frozen):
    """Base model, prompt, score."""

    model: str = "smollm2-135m"
    """`smollm2-135m` (the hash-pinned embedded model), a Hugging Face id, or a local folder with safetensors weights."""

    max_history: int = Field(10, ge=0)
    """History items in the prompt, newest last."""

    keywords: Literal["none", "target", "all"] = "target"
    """Whose keywords (genres) the prompt shows."""

    chat_template: bool = False
    """Wrap the prompt as a user turn of the model's chat template; else it is plain text that ends in "Answer:"."""

    max_prompt_tokens: int = Field(512, ge=192)
    """Longer prompts drop their oldest history items; the answer position always survives."""

    history_soft_tokens: bool = False
    """Give each history item of the ID prompt its CF vector as well."""

    score: Literal["yes", "yes_minus_no"] = "yes"
    """`yes`: logit of the Yes token (paper). `yes_minus_no`: its difference to the No token."""

    score_scale: float = Field(1.0, gt=0)
    """Factor on the LLM logit inside the score."""

    logit_offset: bool = True
    """Subtract the mean start logit on a seeded train sample, else hundreds of steps go into unlearning a constant."""

    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Type of the frozen body while training; scores that are reported are always computed in fp32."""

    lora: LoRAConfig = LoRAConfig()
    projector: ProjectorConfig = ProjectorConfig()
