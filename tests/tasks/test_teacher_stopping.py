"""The switch that ends the asking: the first reason counts, and nobody misses it."""

from __future__ import annotations

import asyncio

from tasks.teacher.stopping import SECONDS_TO_FINISH, Stopping
from tests.virtual_time import in_virtual_time, now


def test_the_first_reason_counts_and_is_heard_once_also_by_those_who_come_late() -> None:
    async def main() -> None:
        stop, heard = Stopping(), []
        stop.also(lambda: heard.append("early"))
        first = ValueError("first")
        stop(first)
        stop(ValueError("second"))
        stop.also(lambda: heard.append("late"))
        assert stop.reason is first
        assert heard == ["early", "late"]

    in_virtual_time(main())


def test_a_crew_that_ends_by_itself_is_not_cut() -> None:
    async def main() -> list[int]:
        done: list[int] = []

        async def work(seconds: int) -> None:
            await asyncio.sleep(seconds)
            done.append(seconds)

        await Stopping().until_done([asyncio.create_task(work(seconds)) for seconds in (500, 3)])
        return done

    assert in_virtual_time(main()) == [3, 500]


def test_after_a_stop_what_takes_too_long_is_cut_and_the_rest_may_finish() -> None:
    async def main() -> tuple[list[float], float]:
        stop, done = Stopping(), list[float]()

        async def work(seconds: float) -> None:
            await asyncio.sleep(seconds)
            done.append(seconds)

        crew = [asyncio.create_task(work(seconds)) for seconds in (20.0, SECONDS_TO_FINISH + 50)]
        asyncio.get_running_loop().call_later(10, stop, ValueError())
        await stop.until_done(crew)
        assert crew[1].cancelled()
        return done, now()

    done, ended = in_virtual_time(main())
    assert done == [20.0]
    assert round(ended) == 10 + SECONDS_TO_FINISH


def test_a_cut_does_not_wait_for_what_is_in_flight() -> None:
    async def main() -> float:
        stop = Stopping()
        crew = [asyncio.create_task(asyncio.sleep(99))]
        loop = asyncio.get_running_loop()
        loop.call_later(1, stop, ValueError())
        loop.call_later(2, stop.cut)
        await stop.until_done(crew)
        return now()

    assert round(in_virtual_time(main())) == 2
