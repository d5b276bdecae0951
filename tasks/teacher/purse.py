"""What a run may spend on its teacher, and what one request may cost."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence

from thinkrec_core.config.reflections import Price
from thinkrec_core.reflection.trace import Reply

BYTES_PER_TOKEN, MESSAGE_TOKENS = 3.0, 8
"""A cautious guess at the tokens of a text, before the endpoint has counted them."""


class TooDear(Exception):
    """A request could cost more than one may."""


class RunTooDear(Exception):
    """The next request could exceed what the run may spend."""


class Purse:
    """Money of one run. A request is set aside at the most it can cost before it goes out, so the limit holds.

    Args:
        price: of the model; None where it is unknown, and then nothing is limited.
        run_limit: for all requests together; None for no limit.
        request_limit: for one request; None for no limit.

    Attributes:
        spent: for answers that came.
        possibly: at most, for tries that were cut or timed out: the endpoint may bill them.
    """

    def __init__(self, price: Price | None, run_limit: float | None, request_limit: float | None) -> None:
        self._price, self._run_limit, self._request_limit = price, run_limit, request_limit
        self.spent = self.possibly = 0.0
        self._aside, self._flying = 0.0, 0
        self._changed = asyncio.Event()

    async def set_aside(self, prompt_tokens: int, max_tokens: int) -> float:
        """The most that a request can cost, set aside. Waits for answers where those in flight might use it up.

        Raises:
            TooDear: more than one request may cost.
            RunTooDear: more than is left, with nothing in flight.
        """
        most = self._price.cost(prompt_tokens, max_tokens) if self._price else 0.0
        if self._request_limit is not None and most > self._request_limit:
            raise TooDear(f"could cost {most:.4g}, more than teacher.max_request_cost {self._request_limit:g}")
        while self._run_limit is not None and self.spent + self.possibly + self._aside + most > self._run_limit:
            if not self._flying:
                raise RunTooDear
            self._changed.clear()
            await self._changed.wait()
        self._aside += most
        self._flying += 1
        return most

    def pay(self, aside: float, prompt_tokens: int, completion_tokens: int) -> None:
        """An answer came for what was set aside."""
        self._give_back(aside)
        if self._price is not None:
            self.spent += self._price.cost(prompt_tokens, completion_tokens)

    def refuse(self, aside: float) -> None:
        """The endpoint refused the request: it costs nothing."""
        self._give_back(aside)

    def lose(self, aside: float) -> None:
        """No answer came, and the endpoint may bill it all the same."""
        self._give_back(aside)
        self.possibly += aside

    def _give_back(self, aside: float) -> None:
        self._flying -= 1
        self._aside = self._aside - aside if self._flying else 0.0  # sums of fractions leave crumbs
        self._changed.set()


def prompt_tokens(messages: Sequence[Mapping[str, str]]) -> int:
    """About how many tokens `messages` are; rather too many than too few."""
    return sum(MESSAGE_TOKENS + text_tokens(message["content"]) for message in messages)


def text_tokens(text: str) -> int:
    """About how many tokens `text` is."""
    return math.ceil(len(text.encode()) / BYTES_PER_TOKEN)


def used_tokens(reply: Reply, messages: Sequence[Mapping[str, str]]) -> tuple[int, int]:
    """(prompt, completion) tokens of an answer: as the endpoint counted, or else estimated."""
    said = reply.content + reply.reasoning_content + reply.reasoning + reply.unreadable
    return reply.prompt_tokens or prompt_tokens(messages), reply.completion_tokens or text_tokens(said)
