"""Keys, pace and purse: what they let through, in virtual time."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.teacher.keys import FIRST_REST, LONGEST_REST, KeyRing, NoKeyInTime, NoKeyLeft
from tasks.teacher.pace import TOKEN_BURST, Pace
from tasks.teacher.purse import Purse, RunTooDear, TooDear
from tests.virtual_time import in_virtual_time, now
from thinkrec_core.config.reflections import Price


def test_keys_take_turns_and_one_that_met_a_limit_rests() -> None:
    async def main() -> list[str]:
        ring = KeyRing(["a", "b", "c"], now)
        said = [(await ring.acquire(99)).secret for _ in range(4)]
        ring.rest(await ring.acquire(99), 5.0)  # b
        said += [(await ring.acquire(99)).secret for _ in range(4)]
        await asyncio.sleep(5)
        return said + [(await ring.acquire(99)).secret for _ in range(3)]

    assert "".join(in_virtual_time(main())) == "abcacacabca"


def test_where_all_keys_rest_the_first_to_wake_is_waited_for_but_not_past_the_deadline() -> None:
    async def main() -> None:
        ring = KeyRing(["a", "b"], now)
        ring.rest(await ring.acquire(99), 30.0)
        ring.rest(await ring.acquire(99), 10.0)
        with pytest.raises(NoKeyInTime):
            await ring.acquire(9.0)
        assert now() == 0.0
        assert (await ring.acquire(99)).secret == "b"
        assert now() == pytest.approx(10.0, abs=1e-3)

    in_virtual_time(main())


def test_a_refused_key_is_used_no_more_and_without_any_nothing_goes_out() -> None:
    async def main() -> None:
        ring = KeyRing(["a", "b"], now)
        ring.retire(await ring.acquire(99))
        assert {(await ring.acquire(99)).secret for _ in range(3)} == {"b"}
        ring.retire(await ring.acquire(99))
        assert ring.alive == 0
        with pytest.raises(NoKeyLeft):
            await ring.acquire(99)

    in_virtual_time(main())


def test_rests_double_with_each_limit_in_a_row_and_a_burst_of_limits_counts_once() -> None:
    async def main() -> list[float]:
        ring = KeyRing(["a"], now)
        rests = []
        for _ in range(9):
            key = await ring.acquire(1e6)
            start = now()
            for _ in range(64):
                ring.rest(key, None)
            await ring.acquire(1e6)
            rests.append(now() - start)
        ring.answered(key)
        ring.rest(key, None)
        start = now()
        await ring.acquire(1e6)
        return [*rests, now() - start]

    *rests, last = in_virtual_time(main())
    for number, rest in enumerate(rests):
        expected = min(FIRST_REST * 2**number, LONGEST_REST)
        assert expected <= rest <= 1.25 * expected + 1e-3
    assert FIRST_REST <= last <= 1.25 * FIRST_REST + 1e-3


def test_a_key_shows_in_no_repr() -> None:
    ring = KeyRing(["sk-planted"], now)
    assert "planted" not in repr(ring._keys)


@given(per_minute=st.sampled_from([1, 7, 60, 90, 600, 5000]), count=st.integers(1, 300))
@settings(deadline=None, max_examples=30)
def test_no_minute_sees_more_requests_than_allowed_beyond_one_second_of_burst(per_minute: int, count: int) -> None:
    async def main() -> list[float]:
        pace = Pace(per_minute, None)
        went: list[float] = []

        async def one() -> None:
            await pace.enter(0)
            went.append(now())

        await asyncio.gather(*(one() for _ in range(count)))
        return went

    went = in_virtual_time(main())
    for number, start in enumerate(went):
        minute = [time for time in went[number:] if time < start + 60 - 0.01]
        assert len(minute) <= per_minute + max(per_minute / 60, 1) + 1
    # And no slower than allowed.
    assert went[-1] <= count * 60 / per_minute + 0.01


@given(tokens=st.lists(st.integers(1, 3000), min_size=1, max_size=40), per_minute=st.sampled_from([600, 6000, 90_000]))
@settings(deadline=None, max_examples=30)
def test_tokens_go_out_at_their_rate_also_in_requests_larger_than_the_burst(tokens: list[int], per_minute: int) -> None:
    async def main() -> float:
        pace = Pace(1_000_000, per_minute)
        for amount in tokens:
            await pace.enter(amount)
        return now()

    seconds, needed = in_virtual_time(main()), sum(tokens) * 60 / per_minute
    assert needed - TOKEN_BURST - 0.01 <= seconds <= needed + 0.1


def test_tokens_that_were_not_used_are_given_back() -> None:
    async def main(used: int) -> float:
        pace = Pace(1_000_000, 6000)
        for _ in range(50):
            await pace.enter(1000)
            pace.settle(1000, used)
        return now()

    assert in_virtual_time(main(100)) < 0.15 * in_virtual_time(main(1000))


PRICE = Price(input=1.0, output=4.0)


def test_the_price_is_per_million_tokens() -> None:
    assert PRICE.cost(1_000_000, 500_000) == 3.0


@given(
    limit=st.floats(0.001, 0.02),
    requests=st.lists(
        st.tuples(
            st.integers(1, 800), st.integers(1, 500), st.floats(0, 1), st.sampled_from(["pay", "refuse", "lose"])
        ),
        max_size=40,
    ),
)
@settings(deadline=None, max_examples=50)
def test_a_run_never_spends_more_than_its_limit(limit: float, requests: list[tuple[int, int, float, str]]) -> None:
    async def main() -> None:
        purse = Purse(PRICE, limit, None)

        async def one(prompt: int, most: int, share: float, outcome: str) -> None:
            aside = await purse.set_aside(prompt, most)
            await asyncio.sleep(share)
            if outcome == "pay":
                purse.pay(aside, prompt, int(share * most))
            else:
                getattr(purse, outcome)(aside)
            assert purse.spent + purse.possibly <= limit * (1 + 1e-9)

        ended = await asyncio.gather(*(one(*request) for request in requests), return_exceptions=True)
        # Who was turned away would not have fitted even with nothing in flight.
        for request, end in zip(requests, ended, strict=True):
            assert end is None or isinstance(end, RunTooDear)
            if end is not None:
                assert purse.spent + purse.possibly + PRICE.cost(request[0], request[1]) > limit * (1 - 1e-9)

    in_virtual_time(main())


def test_one_request_may_not_cost_more_than_its_limit() -> None:
    async def main() -> None:
        purse = Purse(PRICE, None, 0.001)
        assert await purse.set_aside(200, 200) == 0.001
        with pytest.raises(TooDear, match=r"could cost 0\.001004, more than teacher\.max_request_cost 0\.001"):
            await purse.set_aside(200, 201)

    in_virtual_time(main())


def test_without_a_price_nothing_is_limited() -> None:
    async def main() -> None:
        purse = Purse(None, None, None)
        purse.pay(await purse.set_aside(10**9, 10**9), 10**9, 10**9)
        assert purse.spent == 0

    in_virtual_time(main())
