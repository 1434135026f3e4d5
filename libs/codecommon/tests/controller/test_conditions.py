"""How a result becomes the conditions in status."""

from __future__ import annotations

from typing import Any

import pytest

from codecommon.api.meta import BaseStatus, Condition
from codecommon.api.results import Interruption, NotReady, Ready, Retryable, Terminal
from codecommon.controller import conditions
from codecommon.controller.conditions import condition

NOW = "2026-01-02T00:00:00Z"
BEFORE = "2026-01-01T00:00:00Z"
SUMMARY = frozenset({"Ready", "Reconciling", "Stalled"})


def held(type_: str, status: Any, reason: str = "Held", generation: int = 1, message: str = "") -> Condition:
    return Condition(
        type=type_,
        status=status,
        reason=reason,
        message=message,
        last_transition_time=BEFORE,
        observed_generation=generation,
    )


def status(*held_now: Condition, observed: int | None = 1) -> BaseStatus:
    return BaseStatus(observed_generation=observed, conditions=held_now)


def short(found: list[Condition]) -> dict[str, tuple[str, str]]:
    return {c.type: (c.status, c.reason) for c in found}


RESULTS: dict[str, tuple[BaseStatus, Ready | Interruption, dict[str, tuple[str, str]]]] = {
    "a status": (status(), Ready(), {"Ready": ("True", "Reconciled")}),
    "a status with a condition of the kind": (
        status(),
        Ready(conditions=(condition("Archived", "True", "ArchivedOnHost"),)),
        {"Ready": ("True", "Reconciled"), "Archived": ("True", "ArchivedOnHost")},
    ),
    "Terminal": (status(), Terminal("R", "m"), {"Ready": ("False", "R"), "Stalled": ("True", "R")}),
    "Terminal with a condition of the kind": (
        status(),
        Terminal("R", "m", conditions=(condition("Validated", "False", "V"),)),
        {"Ready": ("False", "R"), "Stalled": ("True", "R"), "Validated": ("False", "V")},
    ),
    "NotReady": (status(), NotReady("R", "m"), {"Ready": ("False", "R"), "Reconciling": ("True", "R")}),
    "Retryable leaves Ready as it was": (
        status(held("Ready", "True", "Reconciled")),
        Retryable("R", "m"),
        {"Ready": ("True", "Reconciled"), "Reconciling": ("True", "R")},
    ),
    "Retryable leaves a Ready that was False": (
        status(held("Ready", "False", "NameTaken")),
        Retryable("R", "m"),
        {"Ready": ("False", "NameTaken"), "Reconciling": ("True", "R")},
    ),
    "Retryable after an edit: nothing is known": (
        status(held("Ready", "True", "Reconciled", generation=0), observed=0),
        Retryable("R", "m"),
        {"Ready": ("Unknown", "R"), "Reconciling": ("True", "R")},
    ),
    "Retryable on a new object: nothing is known": (
        status(observed=None),
        Retryable("R", "m"),
        {"Ready": ("Unknown", "R"), "Reconciling": ("True", "R")},
    ),
    "a Ready without a generation speaks of the one that status observed": (
        status(held("Ready", "True", "Synced", generation=0), observed=1),
        Retryable("R", "m"),
        {"Ready": ("True", "Synced"), "Reconciling": ("True", "R")},
    ),
}


@pytest.mark.parametrize(("before", "result", "wanted"), RESULTS.values(), ids=RESULTS)
def test_what_holds_after_a_result(
    before: BaseStatus, result: Ready | Interruption, wanted: dict[str, tuple[str, str]]
) -> None:
    assert short(conditions.from_result(before, result, 1)) == wanted


def merged(
    current: tuple[Condition, ...], *wanted: Condition, owned: frozenset[str] = SUMMARY
) -> tuple[Condition, ...]:
    return conditions.merge(current, wanted, owned=owned, generation=2, now=NOW)


def test_a_condition_keeps_its_transition_time_while_its_status_stays() -> None:
    (ready,) = merged((held("Ready", "True", "Old"),), condition("Ready", "True", "New", "n"))
    assert (ready.reason, ready.message, ready.last_transition_time) == ("New", "n", BEFORE)


def test_a_condition_whose_status_changes_gets_the_time_of_the_change() -> None:
    (ready,) = merged((held("Ready", "True"),), condition("Ready", "False", "R"))
    assert ready.last_transition_time == NOW


def test_a_new_condition_gets_the_time_and_the_generation() -> None:
    (ready,) = merged((), condition("Ready", "True", "R"))
    assert (ready.last_transition_time, ready.observed_generation) == (NOW, 2)


def test_owned_conditions_that_no_longer_hold_leave_and_those_of_others_stay() -> None:
    found = merged((held("Stalled", "True"), held("SomebodyElses", "True")), condition("Ready", "True", "R"))
    assert [c.type for c in found] == ["Ready", "SomebodyElses"]


def test_the_list_is_in_one_order_with_ready_first() -> None:
    found = merged((held("Zulu", "True"), held("Alpha", "True")), condition("Ready", "True", "R"))
    assert [c.type for c in found] == ["Ready", "Alpha", "Zulu"]


def test_a_message_is_redacted_and_cut() -> None:
    token = "ghp_" + "a" * 36
    (ready,) = merged((), condition("Ready", "False", "R", f"{token} " + "x" * 5000))
    assert token not in ready.message
    assert len(ready.message) == 2048
    assert ready.message.endswith("…")


def test_merging_again_changes_nothing() -> None:
    once = merged((), condition("Ready", "False", "R", "password=hunter2 " + "x" * 5000))
    again = conditions.merge(once, once, owned=SUMMARY, generation=2, now="2027-01-01T00:00:00Z")
    assert again == once
