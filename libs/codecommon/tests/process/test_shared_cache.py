"""A cache that workspaces share: bounded in all and for each, and what was used last stays."""

from __future__ import annotations

from codecommon.process.shared_cache import SharedCache


def cache(most: int, most_each: int) -> SharedCache[tuple[str, int], str]:
    return SharedCache(most, most_each, lambda key: key[0])


def test_a_workspace_pushes_out_its_own_oldest_entries_and_nobody_elses() -> None:
    shared = cache(100, 10)
    shared.put(("small", 1), "kept")
    for number in range(5000):
        shared.put(("big", number), "")
    assert shared.get(("small", 1)) == "kept"
    assert [key for key in shared if key[0] == "big"] == [("big", number) for number in range(4990, 5000)]


def test_all_together_are_bounded_and_what_was_used_last_stays() -> None:
    shared = cache(10, 5)
    for number in range(10):
        shared.put((f"w{number}", 0), "")
    shared.get(("w0", 0))
    shared.put(("w10", 0), "")
    assert ("w0", 0) in list(shared)
    assert ("w1", 0) not in list(shared)
    assert len(list(shared)) == 10


def test_sizes_count_also_when_an_entry_is_replaced_or_dropped() -> None:
    shared = cache(100, 10)
    shared.put(("w", 1), "a", 6)
    shared.put(("w", 1), "b", 4)
    shared.put(("w", 2), "c", 6)
    assert (shared.get(("w", 1)), shared.get(("w", 2))) == ("b", "c")
    shared.drop(("w", 2))
    shared.put(("w", 3), "d", 6)
    assert list(shared) == [("w", 1), ("w", 3)]
    shared.put(("w", 4), "longer than all of its workspace", 11)
    assert list(shared) == []
