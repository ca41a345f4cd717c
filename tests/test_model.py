"""Another model's name in a body: only that changes, whatever stands around it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.api.model import with_model

LONG = "9" * 5000
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_BODIES = st.dictionaries(st.text() | st.sampled_from(["messages", "Model", "models"]), _VALUES, max_size=5)


@given(_BODIES, st.text(), st.text(), st.integers(0, 5), st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_only_the_model_changes(
    body: dict[str, Any], old: str, new: str, place: int, ascii_only: bool, indent: int | str | None
) -> None:
    """The text before the value and after it is the same, and the rest reads as before."""
    members = [(key, value) for key, value in body.items() if key != "model"]
    members.insert(min(place, len(members)), ("model", old))
    text = f" {json.dumps(dict(members), ensure_ascii=ascii_only, indent=indent)}\n"
    replaced = with_model(text, new)
    assert json.loads(replaced) == {**dict(members), "model": new}
    value = json.dumps(old, ensure_ascii=ascii_only)
    places = [at for at in range(len(text)) if text.startswith(value, at)]
    assert replaced in [f"{text[:at]}{json.dumps(new, ensure_ascii=False)}{text[at + len(value) :]}" for at in places]


@given(_BODIES, st.text())
def test_a_body_without_a_model_stays_as_it_is(body: dict[str, Any], new: str) -> None:
    body.pop("model", None)
    text = json.dumps(body)
    assert with_model(text, new) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"messages":[{"model":"x"}],"model":"a"}', '{"messages":[{"model":"x"}],"model":"b"}'),
        ('{"user":"\\"model\\": \\"a\\"","model":"a"}', '{"user":"\\"model\\": \\"a\\"","model":"b"}'),
        ('{ "mod\\u0065l" : null , "seed":1e5}', '{ "mod\\u0065l" : "b" , "seed":1e5}'),
        (
            '{"user":"\\ud800","n":%s,"model":"a"}' % ("9" * 5000),
            '{"user":"\\ud800","n":%s,"model":"b"}' % ("9" * 5000),
        ),
        ("{}", "{}"),
    ],
)
def test_what_only_looks_like_it_is_left_alone(text: str, expected: str) -> None:
    """A model further in, one in a string, an escaped key, numbers and characters that Python takes ill."""
    assert with_model(text, "b") == expected
