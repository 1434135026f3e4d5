"""What is said of reasons."""

from __future__ import annotations

import pytest

from codecommon.api.reasons import plain


@pytest.mark.parametrize(
    ("meaning", "wanted"),
    [
        ("It is there (stalled); it is not shown (retried).", "It is there; it is not shown."),
        ("It is in use (waiting: it was made a moment ago).", "It is in use (it was made a moment ago)."),
        ("The request is retried (in vain).", "The request is retried (in vain)."),
    ],
)
def test_people_are_not_told_which_end_of_reconciling_a_case_leads_to(meaning: str, wanted: str) -> None:
    assert plain(meaning) == wanted
