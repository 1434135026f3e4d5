from datetime import timedelta

import pytest

from codecommon.api.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", timedelta(seconds=90)),
        ("2m", timedelta(minutes=2)),
        ("1h30m", timedelta(minutes=90)),
        ("1.5h", timedelta(minutes=90)),
        ("500ms", timedelta(milliseconds=500)),
        (".5s", timedelta(milliseconds=500)),
        ("5.s", timedelta(seconds=5)),
        ("1m1m", timedelta(minutes=2)),
        ("-10s", timedelta(seconds=-10)),
        ("3us", timedelta(microseconds=3)),
        ("3µs", timedelta(microseconds=3)),
        ("1500ns", timedelta(microseconds=1)),
        ("0", timedelta()),
        ("2562047h47m16.854775807s", timedelta(microseconds=9223372036854775)),
    ],
)
def test_a_duration_means_what_it_means_in_go(text: str, expected: timedelta) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "text", ["", "90", "1.5", "s", "1d", "1h 30m", "1e3s", "--1s", "٣s", "2562047h47m16.854775808s"]
)
def test_what_go_does_not_take_for_a_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no unit|not a duration|longer than"):
        parse_duration(text)
