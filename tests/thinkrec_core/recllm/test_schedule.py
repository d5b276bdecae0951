"""The learning rate against the published values, and its laws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkrec_core.recllm.schedule import Schedule, learning_rate_at

TOTAL = 40_000
PUBLISHED = Schedule(peak=1e-4, minimum=8e-5, warmup_from=1e-5, warmup_steps=200)


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 1.0e-5),
        (1, 1.045e-5),
        (100, 5.5e-5),
        (199, 9.955e-5),
        (200, 9.9998766325e-5),
        (20_000, 9.0e-5),
        (39_999, 8.0000000031e-5),
    ],
)
def test_published_values(step: int, rate: float) -> None:
    assert PUBLISHED.at(step, TOTAL) == pytest.approx(rate, rel=1e-10)


def test_without_warm_up_the_first_rate_is_the_peak() -> None:
    assert learning_rate_at(0, 10, 1e-3, 0.0, 1e-5, 0) == 1e-3


@given(
    peak=st.floats(1e-6, 1e-2),
    minimum=st.floats(0, 1),
    start=st.floats(0, 1),
    warmup=st.integers(0, 50),
    total=st.integers(1, 200),
)
def test_rates_rise_then_fall_between_their_bounds(
    peak: float, minimum: float, start: float, warmup: int, total: int
) -> None:
    low, first = minimum * peak, start * peak
    rates = [learning_rate_at(step, total, peak, low, first, warmup) for step in range(total)]
    assert all(min(low, first) * (1 - 1e-9) <= rate <= peak * (1 + 1e-9) for rate in rates)
    rising, falling = rates[:warmup], rates[warmup:]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
