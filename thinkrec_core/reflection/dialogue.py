"""The dialogue with the teacher about one wrong prediction, as a state that never changes and never waits.

    question ─ right verdict ──────────> accepted, or rejected (no reasons in it, or it tells of the hint)
        │ wrong or no verdict
        └> question, first answer, hint ─ ... each later round another hint in its place ... ─> rejected after max_rounds

An answer that is empty, because thinking used up the budget, is asked for again with a larger one. A body that is no chat
completion was paid for all the same: it counts as a round, and the same question is asked in the next.
Differs: the published loop has no bound and looks for the verdict as a substring.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np

from thinkrec_core.config.reflections import ReflectionsConfig, TeacherConfig
from thinkrec_core.reflection.prompts import HINT_COUNT, Case, Message, Style, answer_word, hint, question, quoted
from thinkrec_core.reflection.trace import Reply, extract_trace, mentions_hint
from thinkrec_core.reflection.verdict import Word, parse_verdict

Status = Literal["open", "accepted", "rejected"]

WRONG_VERDICT = "wrong verdict"
NO_VERDICT = "no verdict"
EMPTY_ANSWER = "empty answer"
UNREADABLE = "unreadable answer"
SHORT_TRACE = "short trace"
LONG_TRACE = "long trace"
LEAKED_HINT = "leaked hint"
REQUEST_FAILED = "request failed"
REQUEST_REFUSED = "request refused"
REASONS = (
    WRONG_VERDICT,
    NO_VERDICT,
    EMPTY_ANSWER,
    UNREADABLE,
    SHORT_TRACE,
    LONG_TRACE,
    LEAKED_HINT,
    REQUEST_FAILED,
    REQUEST_REFUSED,
)
"""How a reason begins; details may follow after a colon."""


@dataclass(frozen=True)
class Rules:
    """What a dialogue may cost and what of it is accepted; see the fields of `teacher` and `reflections`."""

    style: Style
    max_rounds: int
    max_tokens: int
    max_tokens_step: int
    max_tokens_limit: int
    min_trace_words: int
    train_on_leaked: bool
    max_trace_words: int

    @classmethod
    def of(cls, teacher: TeacherConfig, reflections: ReflectionsConfig) -> Self:
        """The rules that the configuration sets."""
        return cls(
            style=teacher.style,
            max_rounds=reflections.max_rounds,
            max_tokens=teacher.max_tokens,
            max_tokens_step=teacher.max_tokens_step,
            max_tokens_limit=teacher.max_tokens_limit,
            min_trace_words=reflections.min_trace_words,
            train_on_leaked=reflections.train_on_leaked,
            max_trace_words=reflections.max_trace_words,
        )


@dataclass(frozen=True)
class Request:
    """What to send next: the messages, the answer budget in tokens, and the round from 1."""

    messages: tuple[Message, ...]
    max_tokens: int
    round: int


@dataclass(frozen=True)
class Dialogue:
    """Where the dialogue about one case stands; `receive` and `fail` return the next state."""

    case: Case
    rules: Rules
    hint_order: tuple[int, ...]
    """The hints in the order in which they would be used."""
    max_tokens: int
    rounds: int = 0
    hint_ids: tuple[int, ...] = ()
    first_answer: str = ""
    """The first answer with a wrong verdict or none: what the hints speak about."""
    status: Status = "open"
    reason: str = ""
    verdict: Word | None = None
    trace: str = ""
    answer: str = ""
    leaked: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @classmethod
    def start(cls, case: Case, rules: Rules, generator: np.random.Generator) -> Self:
        """A dialogue before its first request; `generator` orders the hints."""
        order = tuple(int(index) for index in generator.permutation(HINT_COUNT))
        return cls(case, rules, order, rules.max_tokens)

    def next_request(self) -> Request:
        """The request of the next round.

        Raises:
            ValueError: the dialogue is over.
        """
        if self.status != "open":
            raise ValueError(f"the dialogue is {self.status}")
        messages = question(self.case, self.rules.style)
        if self.hint_ids:
            # An assistant turn without text is refused by some servers; a dash stands for "said nothing usable".
            messages += ({"role": "assistant", "content": self.first_answer or "-"},)
            messages += (hint(self.hint_ids[-1], self.case.label, self.rules.style),)
        return Request(messages, self.max_tokens, self.rounds + 1)

    def receive(self, reply: Reply) -> Dialogue:
        """The state after `reply` to `next_request()`."""
        if self.status != "open":
            raise ValueError(f"the dialogue is {self.status}")
        heard = replace(
            self,
            rounds=self.rounds + 1,
            answer=reply.content,
            prompt_tokens=self.prompt_tokens + reply.prompt_tokens,
            completion_tokens=self.completion_tokens + reply.completion_tokens,
        )
        if reply.unreadable:
            return heard._after_noise(reply.unreadable)
        if not reply.answer:
            return heard._after_silence()
        titles = self._titles()
        heard = replace(heard, verdict=parse_verdict(reply.content, titles))
        if heard.verdict == answer_word(self.case.label).lower():
            return heard._judged(extract_trace(reply, titles))
        return heard._hinted(reply.answer)

    def fail(self, why: str, *, transient: bool = True) -> Dialogue:
        """The state after a request that could not be answered: rejected, with the reason.

        Args:
            transient: the way failed, so that another run may ask again; else the endpoint refused the request itself.
        """
        return self._rejected(f"{REQUEST_FAILED if transient else REQUEST_REFUSED}: {why}")

    @property
    def failed(self) -> bool:
        """True where the dialogue ended because the way to the teacher failed."""
        return self.reason.startswith(f"{REQUEST_FAILED}:")

    def _titles(self) -> tuple[str, ...]:
        """The titles as they came and as the teacher saw them: what they say is no verdict."""
        titles = [self.case.title, *(title for title, _ in self.case.history)]
        return tuple({text for title in titles for text in (title, quoted(title)[1:-1])})

    def _after_noise(self, body: str) -> Dialogue:
        if self.rounds >= self.rules.max_rounds:
            return self._rejected(f"{UNREADABLE}: {body}")
        return self

    def _after_silence(self) -> Dialogue:
        budget = min(self.max_tokens + self.rules.max_tokens_step, self.rules.max_tokens_limit)
        if self.rounds >= self.rules.max_rounds or budget == self.max_tokens:
            return self._rejected(f"{EMPTY_ANSWER}: nothing within {self.max_tokens} tokens, round {self.rounds}")
        return replace(self, max_tokens=budget)

    def _judged(self, trace: str) -> Dialogue:
        words = len(trace.split())
        if words > self.rules.max_trace_words:
            return replace(self, trace=trace)._rejected(f"{LONG_TRACE}: {words} words")
        leaked = mentions_hint(trace, self._titles())
        judged = replace(self, trace=trace, leaked=leaked)
        if words < self.rules.min_trace_words:
            return judged._rejected(f"{SHORT_TRACE}: {words} words")
        if leaked and not self.rules.train_on_leaked:
            return judged._rejected(LEAKED_HINT)
        return replace(judged, status="accepted")

    def _hinted(self, answer: str) -> Dialogue:
        if self.rounds >= self.rules.max_rounds or len(self.hint_ids) == len(self.hint_order):
            what = NO_VERDICT if self.verdict is None else WRONG_VERDICT
            return self._rejected(f"{what}: after round {self.rounds}")
        return replace(
            self,
            first_answer=self.first_answer or answer,
            hint_ids=(*self.hint_ids, self.hint_order[len(self.hint_ids)]),
        )

    def _rejected(self, reason: str) -> Dialogue:
        return replace(self, status="rejected", reason=reason)
