import limits
import pytest

from gateway.caller_limits import CallerLimits, caller_key


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_caller_is_told_when_to_come_back_and_then_admitted() -> None:
    clock = Clock()
    callers = CallerLimits(limits.parse("2/minute"), now=clock)

    assert [callers.retry_after("a"), callers.retry_after("a")] == [None, None]
    clock.now += 20
    assert callers.retry_after("a") == 40
    assert callers.retry_after("b") is None
    clock.now += 40
    assert callers.retry_after("a") is None


def test_a_clock_that_is_set_back_shuts_nobody_out() -> None:
    clock = Clock()
    callers = CallerLimits(limits.parse("1/minute"), now=clock)
    callers.retry_after("a")
    clock.now -= 3600

    assert callers.retry_after("a") is None


def test_only_so_many_callers_are_remembered_those_who_asked_last() -> None:
    callers = CallerLimits(limits.parse("1/minute"), most_callers=100, now=Clock())
    callers.retry_after("regular")
    for number in range(1000):
        callers.retry_after(str(number))
        assert callers.retry_after("regular") is not None

    assert callers.retry_after("0") is None


def test_a_key_has_a_fixed_length_and_does_not_show_the_token() -> None:
    def key(*headers: tuple[bytes, bytes]) -> str:
        return caller_key({"type": "http", "headers": list(headers), "client": ("10.0.0.1", 1)})

    bearer = (b"authorization", b"Bearer the-token")
    cluster = (b"x-kedge-cluster", b"c" * 60_000)

    assert key(bearer, cluster) != key(bearer) != key(cluster)
    assert {len(key(bearer, cluster)), len(key())} == {64}
    assert "the-token" not in key(bearer)


@pytest.mark.parametrize("written", ["Bearer    the-token", "bearer the-token", "BEARER the-token  "])
def test_a_caller_is_the_same_however_the_token_is_written(written: str) -> None:
    def key(authorization: str) -> str:
        return caller_key({"type": "http", "headers": [(b"authorization", authorization.encode())]})

    assert key(written) == key("Bearer the-token") != key("Bearer another")
