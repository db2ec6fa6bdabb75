"""A token bucket grants its rate, its burst, and never more."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.bucket import TokenBucket

ROUNDING = 1e-6
rates = st.floats(0.01, 1000)
bursts = st.floats(1, 1000)
starts = st.floats(0, 1e7)
gaps = st.lists(st.just(0.0) | st.floats(0, 0.05) | st.floats(0, 100), max_size=200)


@given(rates, bursts, starts, gaps)
def test_no_interval_gets_more_than_the_burst_and_the_rate_for_its_length(
    rate: float, burst: float, start: float, waits: list[float]
) -> None:
    bucket = TokenBucket(rate, burst, start)
    granted = [now for now in accumulate(waits, initial=start) if bucket.take(now)]
    # The excess of any interval is the rise of `count - rate * time` since its lowest point.
    lowest = float("inf")
    for count, now in enumerate(granted):
        lowest = min(lowest, count - rate * (now - start))
        assert count + 1 - rate * (now - start) - lowest <= burst + ROUNDING


@given(rates, st.integers(1, 100), starts)
def test_a_burst_is_granted_at_once_and_no_more(rate: float, burst: int, start: float) -> None:
    bucket = TokenBucket(rate, burst, start)
    assert [bucket.take(start) for _ in range(burst + 1)] == [True] * burst + [False]


@given(rates, bursts, starts, st.lists(st.floats(1, 5), max_size=100))
def test_whoever_stays_below_the_rate_is_always_granted(
    rate: float, burst: float, start: float, slack: list[float]
) -> None:
    bucket = TokenBucket(rate, burst, start)
    waits = [(factor + ROUNDING) / rate for factor in slack]
    assert all(bucket.take(now) for now in accumulate(waits, initial=start))


@given(rates, bursts, starts, gaps)
def test_after_the_wait_that_was_told_the_next_is_granted(
    rate: float, burst: float, start: float, waits: list[float]
) -> None:
    bucket = TokenBucket(rate, burst, start)
    now = start
    for gap in waits:
        now += gap
        if bucket.take(now):
            continue
        wait = bucket.wait(now)
        assert 0 < wait <= 1 / rate + ROUNDING
        now += wait + ROUNDING * max(1, 1 / rate)
        assert bucket.take(now)


@given(rates, bursts, starts, gaps)
def test_asking_how_long_to_wait_costs_nothing(
    rate: float, burst: float, start: float, waits: list[float]
) -> None:
    silent, asking = TokenBucket(rate, burst, start), TokenBucket(rate, burst, start)
    for now in accumulate(waits, initial=start):
        asking.wait(now)
        assert silent.take(now) == asking.take(now)


@given(gaps)
def test_a_rate_of_0_grants_everything(waits: list[float]) -> None:
    bucket = TokenBucket(0, 0, 0.0)
    assert all(bucket.take(now) for now in accumulate(waits, initial=0.0))
    assert bucket.wait(1.0) == 0.0


@given(bursts, gaps)
def test_a_bucket_never_saves_more_than_its_burst(burst: float, waits: list[float]) -> None:
    bucket = TokenBucket(1.0, burst, 0.0)
    end = sum(waits) + 10**6
    assert sum(bucket.take(end) for _ in range(int(burst) + 5)) == int(burst)


def test_refusals_in_a_row_are_counted_until_the_next_grant() -> None:
    bucket = TokenBucket(1.0, 1.0, 0.0)
    assert bucket.take(0.0)
    assert not bucket.take(0.25)
    assert not bucket.take(0.5)
    assert bucket.refused_in_a_row == 2
    assert bucket.take(1.0)
    assert bucket.refused_in_a_row == 0


@pytest.mark.parametrize(("now", "wait"), [(0.0, 0.5), (0.25, 0.25), (0.5, 0.0), (9.0, 0.0)])
def test_the_wait_is_the_time_until_a_whole_token(now: float, wait: float) -> None:
    bucket = TokenBucket(2.0, 1.0, 0.0)
    bucket.take(0.0)
    assert bucket.wait(now) == wait


@given(rates, st.integers(1, 100), starts, st.integers(0, 200))
def test_what_is_given_back_is_granted_again_but_never_more_than_the_burst(
    rate: float, burst: int, start: float, back: int
) -> None:
    bucket = TokenBucket(rate, burst, start)
    assert all(bucket.take(start) for _ in range(burst))
    for _ in range(back):
        bucket.give_back(start)
    granted = min(back, burst)
    assert [bucket.take(start) for _ in range(granted + 1)] == [True] * granted + [False]
