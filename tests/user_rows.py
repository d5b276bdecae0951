"""Examples of several users with several targets each, as an evaluation has them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.tiny_recllm import OPTIONS, Tiny
from thinkrec_core.recllm.examples import Example, ExampleFactory
from thinkrec_core.recllm.prompt import PromptBuilder
from thinkrec_core.recllm.records import Samples

TARGETS = 5


def rows_of_users(tiny: Tiny, slots: bool = True) -> list[Example]:
    """Five targets of each of three users: three behind one history, two behind another; and all of them out of order."""
    n_tokens = tiny.model.projector.n_tokens
    prompts = PromptBuilder(tiny.pieces, tiny.world.texts, replace(OPTIONS, n_tokens=n_tokens, history_slots=slots))
    draw = np.random.default_rng(3)
    users, items, histories = [], [], []
    for user in (1, 2, 3):
        first = draw.permutation(np.arange(1, 16))[: 4 + user].tolist()
        for target in range(TARGETS):
            users.append(user)
            items.append(int(draw.integers(16, 21)))
            histories.append(first if target < 3 else [*first[1:], 16])
    order = draw.permutation(len(users))
    chosen = [histories[place] for place in order]
    samples = Samples(
        user_idx=np.array(users)[order],
        item_idx=np.array(items)[order],
        label=order % 2,
        history_offsets=np.cumsum([0, *map(len, chosen)]),
        history_items=np.concatenate(chosen),
        history_labels=np.concatenate(chosen) % 2,
        encoder_logit=np.linspace(-1, 1, len(order)),
    )
    factory = ExampleFactory(prompts, tiny.signals, tiny.model.answers, samples, True, 64)
    return [factory.make(place, "id") for place in range(len(order))]
