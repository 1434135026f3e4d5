"""What is said of reasons."""

from __future__ import annotations

import pytest

from codecommon.api.reasons import plain


@pytest.mark.parametrize(
    ("meaning", "wanted"),
    [
        ("It is there (stalled). Or it is not shown (retried).", "It is there. Or it is not shown."),
        ("The request is retried (in vain).", "The request is retried (in vain)."),
    ],
)
def test_people_are_not_told_which_end_of_reconciling_a_case_leads_to(meaning: str, wanted: str) -> None:
    assert plain(meaning) == wanted
