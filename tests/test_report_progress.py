"""Progress as a line, a block and an event."""

import json
from datetime import UTC
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from moment import NOW, progress
from rich.cells import cell_len

from batchrunner.record import Spending
from batchrunner.report.cells import width
from batchrunner.report.progress import Progress, estimate, event, lines, plain_line


def test_the_plain_line_says_it_all_in_one() -> None:
    assert plain_line(progress(), NOW, zone=UTC) == (
        "14:31:31 reviews 6330/10000 63.3% ok=6280 failed=50 rpm=196/200 tpm=76.4k/200k slots=7/64 limit=rpm "
        "429s=0 eta=14:50"
    )


def test_the_plain_line_leaves_out_what_is_not_known() -> None:
    line = plain_line(progress(rpm_limit=None, tpm_limit=None, tokens_1m=0, eta=None), NOW, zone=UTC)
    assert " rpm=196 " in line
    assert "tpm=" not in line
    assert "eta=" not in line


def test_a_wait_is_told_with_its_length() -> None:
    assert "limit=tpm wait=41s" in plain_line(progress(limiting="tpm", waiting=41.0), NOW, zone=UTC)


def test_the_block_has_the_layout_of_a_provider_with_headers() -> None:
    assert lines(progress(), NOW, 110, zone=UTC) == [
        "reviews  gpt-4o-mini @ api.openai.com  run 2, 4,150 done before",
        "tasks  ████████████████████▓░░░░░░░░░░░░░ 63.3%  6,330/10,000  ETA 18m43s (14:50)",
        "RPM    █████████████████████████████████░ 196/200  ◀ limiting",
        "TPM    ████████████░░░░░░░░░░░░░░░░░░░░░░ 76.4k/200k",
        "slots  ███░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░ 7/64 in flight",
        "done 6,280  failed 50  left 3,670  retries 31  429s 0  p50 1.9s p95 6.4s",
        "last: timeout after 120s, row-004512, 3s ago, attempt 1 of 5",
    ]


def test_the_block_of_a_provider_that_tells_nothing_marks_the_slots() -> None:
    block = lines(
        progress(rpm_limit=None, tpm_limit=None, limiting="slots", in_flight=5, slots=5, eta=None, last_problem=None),
        NOW,
        80,
        zone=UTC,
    )
    assert block[1].endswith("6,330/10,000  ETA …")
    assert block[2].endswith("· 196  no limit seen")
    assert block[4].endswith("█ 5/5 in flight  ◀ limiting")
    assert len(block) == 6


def test_unknown_tokens_have_no_line() -> None:
    block = lines(progress(tokens_1m=0, tpm_limit=None), NOW, 80)
    assert not any(line.startswith("TPM") for line in block)


@pytest.mark.parametrize(
    ("limiting", "said"),
    [
        ("server", "◀ the server is the limit, 41s"),
        ("none", "◀ waiting, 41s"),
        ("paused by set (night)", "◀ paused by set (night), 41s"),
    ],
)
def test_a_reason_without_a_bar_stands_in_the_first_line(limiting: str, said: str) -> None:
    assert lines(progress(limiting=limiting, waiting=41.2), NOW, 120)[0].endswith(said)


def test_exactly_one_line_is_marked_as_limiting() -> None:
    for limiting in ("rpm", "tpm", "slots", "server", "draining"):
        assert sum("◀" in line for line in lines(progress(limiting=limiting), NOW, 120)) == 1


def test_one_failure_among_a_million_is_seen() -> None:
    block = lines(progress(succeeded=999_998, failed=1, left=1, total=1_000_000), NOW, 80)
    assert block[1].count("▓") == 1
    assert "░" in block[1]


def test_a_narrow_terminal_gets_one_line() -> None:
    (line,) = lines(progress(), NOW, 49, zone=UTC)
    assert line.startswith("63.3% 6,330/10,000 ETA 14:50 ◀ rpm")


def test_ascii_has_other_glyphs_and_no_other_bytes() -> None:
    block = lines(progress(job="评论", eta=None), NOW, 80, ascii_only=True)
    assert all(line.isascii() for line in block)
    assert "#####x....." in block[1]
    assert "< limiting" in block[2]


def test_hostile_names_can_not_steer_the_terminal() -> None:
    block = lines(progress(job="a\x1b[2J\n", last_problem="x\r\x9b31m\u202e"), NOW, 80)
    assert not any(character in line for line in block for character in "\x1b\n\r\x9b\u202e")


counts = st.integers(0, 10**9)
limits = st.none() | st.floats(0, 1e9)
words = st.text(max_size=120) | st.text(st.sampled_from("评论é👍a "), max_size=120)
moments = st.builds(
    Progress,
    job=words,
    label=words,
    run=counts,
    done_before=counts,
    succeeded=counts,
    failed=counts,
    left=counts,
    total=counts,
    in_flight=counts,
    slots=counts,
    sent_1m=counts,
    tokens_1m=counts,
    rpm_limit=limits,
    tpm_limit=limits,
    refused=counts,
    retries=counts,
    tokens=counts,
    p50=limits,
    p95=limits,
    limiting=st.sampled_from(["rpm", "tpm", "slots", "none", "server"]) | words,
    waiting=st.floats(0, 1e6),
    eta=st.none() | st.floats(0, 1e9),
    last_problem=st.none() | words,
    spending=st.builds(
        Spending,
        currency=st.sampled_from([None, "CNY", "USD"]) | words,
        spent=st.none() | st.integers(0, 10**18),
        unsettled=st.integers(0, 10**18),
        unknown=counts,
        limit=st.none() | st.integers(1, 10**18),
    ),
    cost_at_end=st.none() | st.integers(0, 10**18),
)


@given(moments, st.integers(1, 200), st.booleans())
def test_no_line_is_wider_than_the_terminal(moment: Progress, cells: int, ascii_only: bool) -> None:
    for line in lines(moment, NOW, cells, ascii_only=ascii_only, zone=UTC):
        assert width(line) <= cells
        assert cell_len(line) <= cells
        assert line.isascii() or not ascii_only


@given(moments)
def test_the_plain_line_is_one_line(moment: Progress) -> None:
    assert len(plain_line(moment, NOW, zone=UTC).splitlines()) == 1


@given(moments)
def test_the_event_is_json_with_the_same_fields_always(moment: Progress) -> None:
    told = json.loads(json.dumps(event(moment, NOW)))
    assert set(told) == set(event(progress(), NOW))


def test_the_event_has_the_promised_fields() -> None:
    assert event(progress(waiting=1.26), NOW) == {
        "event": "progress",
        "t": "2025-11-23T14:31:31Z",
        "done": 6280,
        "failed": 50,
        "left": 3670,
        "total": 10_000,
        "in_flight": 7,
        "slots": 64,
        "rpm": 196,
        "rpm_limit": 200.0,
        "tpm": 76_400,
        "tpm_limit": 200_000.0,
        "limiting": "rpm",
        "waiting_s": 1.3,
        "rate_limited": 0,
        "retries": 31,
        "tokens": 0,
        "p50": 1.9,
        "p95": 6.4,
        "cost": None,
        "possibly_charged": None,
        "budget": None,
        "currency": None,
        "cost_at_end": None,
        "eta": "2025-11-23T14:50:14Z",
    }


def eta(**changed: Any) -> float | None:
    known: dict[str, Any] = {
        "left": 3600,
        "answered": 20,
        "rpm": 60.0,
        "tpm": None,
        "tokens_per_task": None,
        "p50": None,
        "slots": 5,
    }
    return estimate(**(known | changed))


def test_the_end_is_not_guessed_before_there_are_enough_answers() -> None:
    assert eta(answered=19) is None
    assert eta(answered=20) == pytest.approx(3600)
    assert eta(answered=0, left=0) == 0


def test_the_slowest_of_requests_tokens_and_slots_decides() -> None:
    assert eta(tpm=60_000.0, tokens_per_task=2000.0) == pytest.approx(7200)
    assert eta(p50=20.0) == pytest.approx(14_400)
    assert eta(p50=1.0, slots=5) == pytest.approx(3600)


def test_without_any_rate_the_end_is_not_known() -> None:
    assert eta(rpm=None) is None
    assert eta(rpm=None, tpm=1000.0, p50=1.0, slots=0) is None


@given(
    left=st.integers(0, 10**7),
    answered=counts,
    rpm=limits,
    tpm=limits,
    tokens_per_task=limits,
    p50=limits,
    slots=st.integers(0, 1000),
)
def test_an_end_is_never_in_the_past(left: int, **told: Any) -> None:
    seconds = estimate(left=left, **told)
    assert seconds is None or seconds >= 0
