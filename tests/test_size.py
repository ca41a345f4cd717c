"""How large prompts are: what base64 stands in them is no text, and what an image takes is learned from answers."""

import json
from base64 import b64encode, urlsafe_b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.limits.estimate import UNKNOWN_MEDIUM, UNKNOWN_OUTPUT, TokenEstimate
from batchrunner.size import BYTES_PER_TOKEN, Size, by_bytes

IMAGE = bytes(range(256)) * 2000  # half a megabyte


def _with_image(text: str, data: str, *, kind: str = "image_url", times: int = 1) -> dict[str, Any]:
    part = {"type": kind, kind: {"url": f"data:image/png;base64,{data}"}}
    return {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": text}, *[part] * times]}]}


@given(st.text(max_size=400))
def test_a_text_is_its_bytes(text: str) -> None:
    """Of every script."""
    body = json.dumps({"messages": [{"role": "user", "content": text}]}, ensure_ascii=False)
    assert by_bytes(body) == Size(len(body.encode("utf-8", "surrogatepass")) / BYTES_PER_TOKEN)


@given(st.text(max_size=200), st.binary(min_size=600, max_size=5000), st.integers(1, 4))
def test_an_inline_image_adds_no_text(text: str, image: bytes, times: int) -> None:
    """However large it is; only what stands around it."""
    small, large = (
        by_bytes(json.dumps(_with_image(text, b64encode(data).decode(), times=times), ensure_ascii=False))
        for data in (image, image * 20)
    )
    assert small.media == large.media == times
    assert small.tokens == large.tokens
    assert small.tokens >= len(text.encode("utf-8", "surrogatepass")) / BYTES_PER_TOKEN


@pytest.mark.parametrize("kind", ["image_url", "input_image", "input_audio", "video_url", "file", "document"])
def test_all_that_is_no_text_counts(kind: str) -> None:
    assert by_bytes(json.dumps(_with_image("what is it?", "aGk=", kind=kind))).media == 1


@pytest.mark.parametrize("encoded", [b64encode(IMAGE), urlsafe_b64encode(IMAGE)])
@pytest.mark.parametrize("slash", ["/", "\\/"])
def test_every_spelling_of_base64(encoded: bytes, slash: str) -> None:
    """Both alphabets; PHP writes a slash with a backslash."""
    body = json.dumps(_with_image("what is it?", encoded.decode())).replace("/", slash)
    assert by_bytes(body).tokens < 50


def test_a_long_word_without_an_image_is_text() -> None:
    """A gene is a prompt."""
    body = json.dumps({"messages": [{"role": "user", "content": "ACGT" * 1000}]})
    assert by_bytes(body) == Size(len(body) / BYTES_PER_TOKEN)


def test_a_prompt_that_speaks_of_images_is_text() -> None:
    body = json.dumps({"messages": [{"role": "user", "content": 'write {"type": "image_url"}'}]})
    assert by_bytes(body).media == 0


def test_an_image_takes_what_images_took() -> None:
    """Beside texts of different lengths, whose tokens were learned first."""
    estimate = TokenEstimate()
    assert estimate.prompt(Size(100, 1)) == 100 + UNKNOWN_MEDIUM
    for size in range(100, 350, 25):
        estimate.learn(Size(size), size * 4 // 5, 10)
    for size in range(100, 350, 25):
        estimate.learn(Size(size, 2), size * 4 // 5 + 2 * 258, 10)
    assert estimate.prompt(Size(125, 3)) == pytest.approx(100 + 3 * 258, rel=0.02)
    assert estimate.prompt(Size(125)) == pytest.approx(100, rel=0.02)


def test_of_an_image_nothing_is_sure_before_an_answer() -> None:
    """A request is only held to be too large for a limit by what is known of it."""
    estimate = TokenEstimate()
    assert estimate.surely(Size(100, 50)) == estimate.surely(Size(100))
    estimate.learn(Size(100, 1), 100 + 2000, 10)
    assert estimate.surely(Size(100, 50)) > 50 * 1000


@given(
    st.lists(
        st.tuples(st.integers(1, 10**6), st.integers(0, 9), st.integers(-5, 10**7), st.integers(-5, 10**6)),
        max_size=40,
    )
)
def test_an_estimate_is_always_some_tokens(replies: list[tuple[int, int, int, int]]) -> None:
    """Whatever nonsense replies report."""
    estimate = TokenEstimate()
    for text, media, prompt, answer in replies:
        estimate.learn(Size(text, media), prompt, answer)
    for size in (Size(1), Size(10**6), Size(10, 20)):
        assert 1.0 <= estimate.prompt(size) < float("inf")
        assert 0.0 < estimate.surely(size) <= estimate.prompt(size)


def learned(factor: float, constant: float) -> TokenEstimate:
    """What prompts of several sizes took."""
    estimate = TokenEstimate()
    for tokens in range(100, 1700, 100):
        estimate.learn(Size(float(tokens)), round(factor * tokens + constant), 5)
    return estimate


def test_what_prompts_took_is_known_to_the_next_run() -> None:
    """What answers took is not: that is the other job's own."""
    beliefs = learned(0.8, 12).beliefs()
    assert beliefs is not None
    again = TokenEstimate()
    again.believe(beliefs)
    assert again.prompt(Size(1000.0)) == pytest.approx(812, rel=0.01)
    assert again.output(None) == UNKNOWN_OUTPUT
    assert again.beliefs() == beliefs
    assert TokenEstimate().beliefs() is None


def test_another_jobs_prompts_fail_nothing_as_too_large() -> None:
    """Their tokens may have been shorter; only answers of this job say more than its bytes."""
    beliefs = learned(2.0, 0).beliefs()
    assert beliefs is not None
    again = TokenEstimate()
    again.believe(beliefs)
    assert again.surely(Size(1000.0)) == pytest.approx(700)
    again.learn(Size(1000.0), 2000, 5)
    assert again.surely(Size(1000.0)) == pytest.approx(1400, rel=0.01)


@pytest.mark.parametrize("beliefs", [{}, {"factor": "x"}, {"factor": 1e9, "constant": 0, "medium": 1}])
def test_what_is_no_belief_of_prompts_is_not_believed(beliefs: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        TokenEstimate().believe({"constant": 0.0, "medium": 1.0} | beliefs)
