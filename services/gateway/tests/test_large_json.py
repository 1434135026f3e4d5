"""The values of a large JSON document are counted before it is parsed."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.mcp_server import large_json
from gateway.mcp_server.large_json import LARGE, MOST_VALUES, LargeJson

MIB = 1 << 20


def call(text: str) -> bytes:
    return json.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"arguments": {"a": text}}}
    ).encode()


def values_in(document: str) -> int:
    """Texts, and the marks around them, as a tokenizer finds them."""
    return len(re.findall(r'"(?:[^"\\]|\\.)*"|[\[{:,]', document))


documents = st.recursive(
    st.text(alphabet='ab"\\,:[]{}é\n', max_size=12) | st.integers() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='"\\,a', max_size=4), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(
    max_examples=200,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(document=documents, piece=st.integers(1, 9), blanks=st.sampled_from([None, 1]))
async def test_exactly_the_values_count_wherever_a_piece_ends(
    monkeypatch: pytest.MonkeyPatch, document: Any, piece: int, blanks: int | None
) -> None:
    text = json.dumps(document, indent=blanks)
    values = values_in(text)
    monkeypatch.setattr(large_json, "LARGE", 0)
    monkeypatch.setattr(large_json, "_PIECE", piece)

    monkeypatch.setattr(large_json, "MOST_VALUES", values)
    assert await LargeJson().refusal(text.encode()) is None
    monkeypatch.setattr(large_json, "MOST_VALUES", values - 1)
    assert "JSON values" in (await LargeJson().refusal(text.encode()) or "")


@pytest.mark.parametrize("text", ["x", '[{,:"', "\\", '"', "\n"])
async def test_a_long_text_passes_whatever_is_in_it(text: str) -> None:
    assert await LargeJson().refusal(call(text * (MIB // len(text)))) is None


@pytest.mark.parametrize("value", [b"{}", b"[]", b"1", b'""', b'"a":1'])
async def test_a_document_of_many_small_values_is_refused(value: bytes) -> None:
    assert await LargeJson().refusal(b"[" + b",".join([value] * 2 * MOST_VALUES) + b"]") is not None


async def test_a_small_document_is_not_looked_at() -> None:
    assert await LargeJson().refusal(b"[" * LARGE) is None


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
async def test_marks_are_not_hidden_by_another_encoding(encoding: str) -> None:
    assert "UTF-8" in (await LargeJson().refusal(("[" + '{"a":1},' * MOST_VALUES).encode(encoding)) or "")
