"""Ids that came before: told exactly, and not kept in memory."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.db.seen import Seen
from batchrunner.errors import StoreError

MANY = 30_000
A_LINE = 8  # bytes of memory an id may take at most; it has 40 itself


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=3)))
def test_it_is_what_a_set_would_be(ids: list[str]) -> None:
    with Seen() as seen:
        told = [seen.is_new(each) for each in ids]
    assert told == [each not in ids[:place] for place, each in enumerate(ids)]


def test_many_take_no_memory_of_ours() -> None:
    tracemalloc.start()
    with Seen() as seen:
        assert all(seen.is_new(f"{n:040}") for n in range(MANY))
        assert not seen.is_new(f"{7:040}")
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MANY * A_LINE


def test_a_full_disk_is_told() -> None:
    with Seen() as seen:
        seen._connection.execute("PRAGMA max_page_count = 4")
        with pytest.raises(StoreError, match="TMPDIR"):
            [seen.is_new(f"{n:0500}") for n in range(100)]
