"""What the reader may do with the data and the weights of a run, and what the figures cannot say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOVIELENS = (
    "MovieLens-100K (GroupLens, University of Minnesota): research use only, no redistribution, no commercial use"
    " without permission. Cite F. Maxwell Harper and Joseph A. Konstan, The MovieLens Datasets: History and Context,"
    " ACM TiiS 5(4), 2015."
)
SYNTHETIC = "Data made up by this program: no terms apply to them."
SMOLLM2 = "SmolLM2-135M-Instruct (Hugging Face): Apache License 2.0."
PRIOR_NAMES = {"encoder": "the CF encoder", "bias": "the bias model", "stacker": "the stacker"}
"""What the LLM's logit is added to, by `training.prior`; nothing under `none`."""


def licences(config: Mapping[str, Any]) -> list[str]:
    """One sentence per source of data and weights."""
    source, model = config["data"]["source"], config["llm"]["model"]
    teacher = config["teacher"]["model"]
    terms = {"ml-100k": MOVIELENS, "synthetic": SYNTHETIC}
    found = [terms.get(source, f"Data from {source}: the licence of that data applies to this report too.")]
    for name, role in ((model, "Base model"), (teacher, "Teacher")):
        found.append(f"{role}: {SMOLLM2}" if name == "smollm2-135m" else f"{role} {name}: see the terms of that model.")
    return found


def limits(config: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[str]:
    """What a reader must know before quoting a figure of this report."""
    found = [
        "Intervals cover the choice of users, not the randomness of training: one seed was trained.",
        f"AUC and UAUC are read together and only within one protocol ({config['data']['history']} histories,"
        f" {config['data']['split'].replace('_', ' ')} split): which labels a history shows moves AUC more than most"
        " models do.",
    ]
    if evaluation["users_uauc"] < 200:
        found.append(
            f"UAUC averages only {evaluation['users_uauc']} users with both a liked and a disliked test row;"
            f" {evaluation['users_dropped']} users are left out."
        )
    if config["teacher"]["model"] == "smollm2-135m":
        found.append(
            "The teacher is a model of 135 million parameters, not the reasoning model of 32 billion that the paper"
            " used: its reasons are short and often thin."
        )
    if config["llm"]["model"] == "smollm2-135m":
        found.append(
            "The student has 135 million parameters; the paper's has 8 billion. Its explanations read so, too."
        )
    if (prior := config["training"]["prior"]) != "none":
        found.append(
            f"The headline score adds the LLM's logit to that of {PRIOR_NAMES[prior]}; the rungs named “LLM score” are the"
            " LLM's logit alone, the score of the paper."
        )
    return found
