"""Splitting a body into lines."""

from __future__ import annotations

import random

import pytest

from watcher.lines import LineSplitter, MalformedLine, parse_object


@pytest.mark.parametrize("seed", range(20))
def test_lines_are_the_same_however_the_body_is_cut(seed: int) -> None:
    rng = random.Random(seed)
    lines = [rng.randbytes(rng.randrange(1, 50)).replace(b"\n", b"x") for _ in range(40)]
    body = b"\n".join(lines) + b"\n"
    splitter = LineSplitter()
    found: list[bytes] = []
    while body:
        cut = rng.randrange(1, 80)
        found += splitter.feed(body[:cut])
        body = body[cut:]
    assert found == lines
    assert splitter.pending == 0


def test_an_incomplete_line_is_pending() -> None:
    splitter = LineSplitter()
    assert list(splitter.feed(b'{"a":1}\n{"b"')) == [b'{"a":1}']
    assert splitter.pending == 4


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory() -> None:
    splitter = LineSplitter(longest=10)
    assert list(splitter.feed(b"abcdef")) == []
    with pytest.raises(MalformedLine, match="too long a line of 12 bytes"):
        list(splitter.feed(b"abcdef"))


@pytest.mark.parametrize("line", [b"<html>hunter2</html>", b'{"hunter2":', b'["hunter2"]', b'"hunter2"', b"\xff\xfe"])
def test_a_line_that_is_no_object_is_refused_by_its_length(line: bytes) -> None:
    with pytest.raises(MalformedLine) as caught:
        parse_object(line)
    assert str(caught.value) == f"a line that is no JSON object of {len(line)} bytes"
    assert caught.value.__context__ is None
