"""The reasoning in a teacher's reply, and whether it gives away that it was told the answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from thinkrec_core.reflection.thinking import split_thinking
from thinkrec_core.reflection.verdict import find_verdict, parse_verdict, visible, without_titles

_LEAK = re.compile(
    r"\b(?:"
    r"(?:correct|right|true|actual|real|given|provided|expected|gold) (?:answer|verdict|label|reaction)"
    r"|(?:the|this|that|your) (?:hint|note|feedback|correction)\b"
    r"|as (?:you|the user|the prompt|the message) (?:say|said|told|note|noted|state|stated|mention|mentioned|point)"
    r"|(?:you|user) (?:told|tell|tells|said|says) (?:me|that|us|it)"
    r"|(?:i was|i am|i'm|we are|we were) told"
    r"|(?:my|your|the) (?:first|earlier|previous|initial|original|last)(?: \w+)? "
    r"(?:analysis|answer|verdict|reasoning|response|prediction|mistake|oversight)"
    r"|(?:is|are|was|as) settled|i apologi[sz]e|you(?:'re| are) right"
    r")",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Reply:
    """What a chat endpoint answered, as it came.

    Attributes:
        content: the answer; may hold a <think> block.
        reasoning_content: thinking, as DeepSeek, Qwen and vLLM name it.
        reasoning: thinking, as other servers name it.
        prompt_tokens: of this request; 0 where the server does not count.
        completion_tokens: of this request; 0 where the server does not count.
        unreadable: the start of a body that was paid for and is no chat completion; the other fields are empty then.
    """

    content: str = ""
    reasoning_content: str = ""
    reasoning: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    unreadable: str = ""

    @property
    def answer(self) -> str:
        """The content without thinking; empty where the budget ended before the answer began."""
        return visible(self.content)


def extract_trace(reply: Reply, titles: Iterable[str] = ()) -> str:
    """The reasoning of `reply` on one line; empty if it gives none.

    Taken from the first of these that says anything: reasoning_content, reasoning, the <think> block of the content, the
    content after the verdict; of an answer in JSON, its longest text that is not the verdict.
    """
    for text in (
        reply.reasoning_content,
        reply.reasoning,
        split_thinking(reply.content)[0],
        _json_reasons(reply.answer) or _after_verdict(reply.answer, titles),
    ):
        if trace := collapse(text):
            return trace
    return ""


def mentions_hint(trace: str, titles: Iterable[str] = ()) -> bool:
    """True where `trace` speaks of an answer that was given to it, such as "the correct answer is No".

    Args:
        titles: of the dialogue; what they say where the trace repeats them is nobody's hint.
    """
    return _LEAK.search(without_titles(trace, titles, _LEAK)) is not None


def collapse(text: str) -> str:
    """`text` with every run of whitespace as one space."""
    return " ".join(text.split())


def _json_reasons(answer: str) -> str:
    if not answer.startswith("{"):
        return ""
    try:
        fields = json.loads(answer)
    except (ValueError, RecursionError):
        return ""
    texts = [value for value in fields.values() if isinstance(value, str)]
    return max((text for text in texts if len(text.split()) > 1 or parse_verdict(text) is None), key=len, default="")


def _after_verdict(answer: str, titles: Iterable[str]) -> str:
    found = find_verdict(answer, titles)
    return re.sub(r"\A[\W_]+", "", answer[found.end :]) if found else ""
