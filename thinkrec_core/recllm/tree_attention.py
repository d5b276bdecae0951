"""Attention of prompts that stand as trees in one row, without padding: a token sees its ancestors, its own node up to itself, and
nothing else.

Everything else in a layer goes token by token, so that only attention has to know where a prompt begins and what it shares. It is
torch's fused attention, called for one part of a tree after the other on a CPU, and for all parts at once, padded, elsewhere, where
a call costs more than what it computes. In exact arithmetic both are attention of whole prompts.

Shape suffixes: T tokens of the row, C calls, Q queries, K keys, H heads, D head size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

import torch
from torch.nn import functional as F
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv

from thinkrec_core.recllm.attention import SPECIAL, additive

NAME = "sdpa_of_trees"
"""Of the implementation, in transformers' registry."""
MOST_AT_ONCE = 256
"""Tokens up to which a node and all below it are one call: siblings look at each other there only to be masked."""


@dataclass(frozen=True)
class Look:
    """One call: the tokens start..stop look at those of `above` and at themselves."""

    start: int
    stop: int
    above: tuple[tuple[int, int], ...]
    visible_QK: torch.Tensor | None
    """None: nothing is above, and a token sees all up to itself."""

    def moved(self, by: int) -> Look:
        """The same, `by` tokens further on."""
        above = tuple((start + by, stop + by) for start, stop in self.above)
        return Look(self.start + by, self.stop + by, above, self.visible_QK)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Where the keys are; neighbours are one."""
        found: list[tuple[int, int]] = []
        for start, stop in (*self.above, (self.start, self.stop)):
            if found and found[-1][1] == start:
                found[-1] = (found[-1][0], stop)
            else:
                found.append((start, stop))
        return found


def looks_of(lengths: Sequence[int], parents: Sequence[int]) -> tuple[Look, ...]:
    """The calls of one tree, which together ask once for every token.

    Args:
        lengths: tokens of every node, which stand in preorder: a node, then all that is below it.
        parents: number of the parent, -1 for a root.
    """
    start = [0, *accumulate(lengths)]
    below = start[1:]  # where the subtree of a node ends
    children: dict[int, list[int]] = {}
    for node in reversed(range(len(parents))):
        children.setdefault(parents[node], []).insert(0, node)
        if parents[node] >= 0:
            below[parents[node]] = max(below[parents[node]], below[node])
    found: list[Look] = []
    todo: list[tuple[list[int], tuple[tuple[int, int], ...]]]
    todo = [(run, ()) for run in _runs(children[-1], start, below)]
    while todo:
        nodes, above = todo.pop()
        first, last = nodes[0], nodes[-1]
        whole = below[last] - start[first]
        if len(nodes) > 1 or whole <= MOST_AT_ONCE or first not in children:
            found.append(_look(start, parents, start[first], below[last], above))
            continue
        found.append(_look(start, parents, start[first], start[first + 1], above))
        path = (*above, (start[first], start[first + 1]))
        todo += [(run, path) for run in _runs(children[first], start, below)]
    return tuple(found)


class Attend(Protocol):
    """Attention over one row."""

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
    ) -> torch.Tensor:
        """(1, T, H, D) from (1, H, T, D); keys and values may have fewer heads, by a divisor."""


class Forest:
    """The trees of one row, one behind the other.

    Args:
        looks: of each tree, from 0 on.
        tokens: of each tree.
    """

    def __init__(self, looks: Sequence[tuple[Look, ...]], tokens: Sequence[int]) -> None:
        self.looks, self.tokens = tuple(looks), tuple(tokens)

    def tree_of_token(self) -> torch.Tensor:
        """(T,) the tree in which each token stands."""
        return torch.repeat_interleave(torch.tensor(self.tokens))

    def only(self, chosen: torch.Tensor) -> Forest:
        """The trees for which `chosen` (trees,) is true, moved together."""
        kept = chosen.nonzero()[:, 0].tolist()
        return Forest([self.looks[tree] for tree in kept], [self.tokens[tree] for tree in kept])

    def attend(self, dtype: torch.dtype, device: torch.device) -> Attend:
        """Attention over the row, for all layers."""
        moved = zip(self.looks, accumulate(self.tokens, initial=0), strict=False)
        looks = [look.moved(by) for each, by in moved for look in each]
        return OneByOne(looks, dtype) if device.type == "cpu" else AllAtOnce(looks, dtype, device)


class OneByOne:
    """A call for each look, on slices."""

    def __init__(self, looks: Sequence[Look], dtype: torch.dtype) -> None:
        masks = [None if look.visible_QK is None else additive(look.visible_QK, dtype) for look in looks]
        self._calls = [(look, look.spans, mask_QK) for look, mask_QK in zip(looks, masks, strict=True)]

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
    ) -> torch.Tensor:
        """See `Attend`."""
        _, heads, tokens, _ = query.shape
        out_1THD = query.new_empty(1, tokens, heads, value.shape[-1])
        for look, spans, mask_QK in self._calls:
            part = F.scaled_dot_product_attention(
                query[:, :, look.start : look.stop],
                _joined(key, spans),
                _joined(value, spans),
                attn_mask=mask_QK,
                is_causal=mask_QK is None,
                scale=scaling,
                enable_gqa=key.shape[1] != heads,
            )
            out_1THD[:, look.start : look.stop] = part.transpose(1, 2)
        return out_1THD


class AllAtOnce:
    """One call for all looks, padded to the largest."""

    def __init__(self, looks: Sequence[Look], dtype: torch.dtype, device: torch.device) -> None:
        seen = [torch.cat([torch.arange(*span) for span in look.spans]) for look in looks]
        asks, keys = max(look.stop - look.start for look in looks), max(map(len, seen))
        query_CQ = torch.zeros(len(looks), asks, dtype=torch.long)
        key_CK = torch.zeros(len(looks), keys, dtype=torch.long)
        visible_CQK = torch.zeros(len(looks), asks, keys, dtype=torch.bool)
        visible_CQK[:, :, 0] = True  # a padded query sees something: a row without keys would be NaN
        back_T = torch.empty(max(look.stop for look in looks), dtype=torch.long)
        for call, (look, seen_K) in enumerate(zip(looks, seen, strict=True)):
            own = look.stop - look.start
            query_CQ[call, :own] = torch.arange(look.start, look.stop)
            key_CK[call, : len(seen_K)] = seen_K
            visible_QK = torch.ones(own, own, dtype=torch.bool).tril() if look.visible_QK is None else look.visible_QK
            visible_CQK[call, :own, : len(seen_K)] = visible_QK
            back_T[look.start : look.stop] = call * asks + torch.arange(own)
        self._query_CQ, self._key_CK, self._back_T = query_CQ.to(device), key_CK.to(device), back_T.to(device)
        self._mask_C1QK = additive(visible_CQK[:, None].to(device), dtype)

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
    ) -> torch.Tensor:
        """See `Attend`."""
        groups = query.shape[1] // key.shape[1]
        out_CHQD = F.scaled_dot_product_attention(
            _gathered(query, self._query_CQ),
            _gathered(repeat_kv(key, groups), self._key_CK),
            _gathered(repeat_kv(value, groups), self._key_CK),
            attn_mask=self._mask_C1QK,
            scale=scaling,
        )
        return out_CHQD.transpose(1, 2).flatten(0, 1)[self._back_T][None]


_CURRENT: ContextVar[Attend] = ContextVar("attention of the trees that run now")


@contextlib.contextmanager
def attending(body: Any, attend: Attend) -> Iterator[None]:
    """`body` with `attend` as its attention for the time of the context."""
    before, token = body.config._attn_implementation, _CURRENT.set(attend)
    body.config._attn_implementation = NAME
    try:
        yield
    finally:
        body.config._attn_implementation = before
        _CURRENT.reset(token)


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls in each layer.

    Raises:
        NotImplementedError: attention of this model takes more than a mask; `takes_trees` is to be asked first.
    """
    special = [name for name in SPECIAL if others.get(name) is not None]
    if special or attention_mask is not None:
        raise NotImplementedError(f"attention over trees with {', '.join(special) or 'a mask'}")
    return _CURRENT.get()(query, key, value, scaling), None


def _look(
    start: Sequence[int], parents: Sequence[int], first: int, stop: int, above: tuple[tuple[int, int], ...]
) -> Look:
    """The look of the tokens first..stop: whole nodes with the same nodes above them."""
    nodes = [node for node in range(len(parents)) if first <= start[node] < stop]
    if len(nodes) == 1 and not above:
        return Look(first, stop, above, None)
    sees: dict[int, set[int]] = {}
    for node in nodes:
        sees[node] = {node} | sees.get(parents[node], set())
    count = sum(end - begin for begin, end in above)
    visible_QK = torch.zeros(stop - first, count + stop - first, dtype=torch.bool)
    visible_QK[:, :count] = True
    for node in nodes:
        own = slice(start[node] - first, start[node + 1] - first)
        for other in sees[node]:
            visible_QK[own, count + start[other] - first : count + start[other + 1] - first] = True
    visible_QK[:, count:].logical_and_(torch.ones(stop - first, stop - first, dtype=torch.bool).tril())
    return Look(first, stop, above, visible_QK)


def _runs(siblings: Sequence[int], start: Sequence[int], below: Sequence[int]) -> list[list[int]]:
    """`siblings` in runs of as many as one call takes."""
    runs: list[list[int]] = [[siblings[0]]]
    for node in siblings[1:]:
        if below[node] - start[runs[-1][0]] <= MOST_AT_ONCE:
            runs[-1].append(node)
        else:
            runs.append([node])
    return runs


def _joined(of: torch.Tensor, spans: Sequence[tuple[int, int]]) -> torch.Tensor:
    """The tokens of `spans` of (1, heads, T, D)."""
    parts = [of[:, :, start:stop] for start, stop in spans]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def _gathered(of: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """(C, heads, index.shape[1], D) the tokens of (1, heads, T, D) that `index` (C, .) names."""
    return of[0].transpose(0, 1)[index].transpose(1, 2)


AttentionInterface.register(NAME, attention)
