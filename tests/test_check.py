"""What is held against a request before it is sent, and what is not."""

import json
from typing import Any

import pytest

from batchrunner.check import Checker, Finding, Level
from batchrunner.config import Endpoint, Route
from batchrunner.errors import ConfigError
from batchrunner.provider import Model, Provider
from batchrunner.task import Request

MODEL = Model(context=1000, max_output=100, temperature=(0.0, 1.0), top_p=(0.0, 1.0))
PROVIDER = Provider(title="Nice", name="nice", models={"m": MODEL}, batch_id_least=6, one_of_sampling=True)


def request(custom_id: str = "task-1", line: int = 1, prompt: str = "hello", **body: Any) -> Request:
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}], **body}
    return Request(
        custom_id=custom_id,
        endpoint="chat/completions",
        body=json.dumps(body),
        model=body["model"],
        row=None,
        line=line,
        offset=0,
        fingerprint=b"",
    )


def routes(*providers: Provider) -> list[Route]:
    return [
        Route(name=provider.name, endpoint=Endpoint(base_url="http://x/v1", provider=provider))
        for provider in providers
    ]


def found(one: Request, provider: Provider = PROVIDER) -> list[tuple[Level, str]]:
    checker = Checker(routes(provider))
    checker.see(one)
    return [(finding.level, finding.what) for finding in checker.findings]


def test_a_request_that_is_right_has_no_finding() -> None:
    assert found(request(temperature=0.5, max_tokens=100)) == []
    assert found(request(top_p=1)) == []


@pytest.mark.parametrize(
    ("body", "level", "what"),
    [
        ({"temperature": 1.5}, Level.ERROR, "temperature 1.5 is not from 0 to 1, as m wants it"),
        ({"top_p": -0.1}, Level.ERROR, "top_p -0.1 is not from 0 to 1"),
        ({"temperature": 0.2, "top_p": 0.5}, Level.WARNING, "both set; Nice advises to set one"),
        ({"max_tokens": 101}, Level.ERROR, "max_tokens 101 is more than the 100 that m may answer with"),
        ({"max_completion_tokens": 900}, Level.ERROR, "max_tokens 900 is more than the 100"),
        ({"max_tokens": 0}, Level.ERROR, "leaves no answer"),
        ({"prompt": "x" * 3700, "max_tokens": 100}, Level.WARNING, "may be longer than the 1,000 tokens"),
        ({"prompt": "x" * 9000}, Level.ERROR, "the prompt is longer than the 1,000 tokens of m's context"),
        ({"custom_id": "1"}, Level.WARNING, "shorter than the 6 characters that Nice's batch API wants"),
        ({"model": "other", "temperature": 9}, Level.NOTICE, "model 'other' is not in what is known of Nice"),
    ],
)
def test_each_finding(body: dict[str, Any], level: Level, what: str) -> None:
    ((got, said),) = found(request(**body))
    assert got is level
    assert what in said


def test_a_large_number_is_written_out() -> None:
    provider = Provider(title="X", models={"m": Model(max_output=98_304)})
    ((_, said),) = found(request(max_tokens=1_234_567), provider)
    assert said == "max_tokens 1,234,567 is more than the 98,304 that m may answer with"


def test_an_image_is_no_long_prompt() -> None:
    """Its base64 is read by nobody as text."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0K" * 10_000}}
    assert found(request(messages=[{"role": "user", "content": [image]}])) == []


def test_what_is_not_known_is_not_held_against_anybody() -> None:
    assert found(request(temperature=9, max_tokens=10**9, custom_id="1"), Provider(title="X")) == []
    assert found(request(temperature="hot", max_tokens=None, top_p=True)) == [
        (Level.WARNING, "temperature and top_p are both set; Nice advises to set one")
    ]


def test_findings_are_counted_with_their_first_line() -> None:
    checker = Checker(routes(PROVIDER))
    checker.see(request("task-1", 1, max_tokens=50))
    checker.see(request("task-2", 2, temperature=2.0))
    checker.see(request("task-3", 3, temperature=2.0))
    (finding,) = checker.findings
    what = "temperature 2 is not from 0 to 1, as m wants it"
    assert finding == Finding(level=Level.ERROR, what=what, count=2, line=2, custom_id="task-2")
    assert not checker.all_fail


def test_a_job_of_which_nothing_would_pass_is_known() -> None:
    checker = Checker(routes(PROVIDER))
    assert not checker.all_fail
    checker.see(request(temperature=2.0))
    checker.see(request(max_tokens=1000))
    assert checker.all_fail


STRICT = Provider(title="Strict", name="strict", models={"m": Model(temperature=(0.0, 0.5))})


def test_a_line_that_one_of_its_lanes_takes_is_not_refused() -> None:
    """But what the other lane has against it is told."""
    checker = Checker(routes(PROVIDER, STRICT))
    checker.see(request(temperature=0.8))
    assert not checker.all_fail
    (finding,) = checker.findings
    assert finding.what == "temperature 0.8 is not from 0 to 0.5, as m wants it"
    neither = Checker(routes(PROVIDER, STRICT))
    neither.see(request(temperature=2))
    assert neither.all_fail


def test_a_lanes_own_name_for_the_model_counts() -> None:
    endpoint = Endpoint(base_url="http://x/v1", provider=PROVIDER)
    checker = Checker([Route(name="x", endpoint=endpoint, models={"ours": "m"})])
    checker.see(request(model="ours", temperature=2))
    assert [finding.level for finding in checker.findings] == [Level.ERROR]


def test_a_model_that_no_lane_takes_is_told() -> None:
    endpoint = Endpoint(base_url="http://x/v1", provider=PROVIDER)
    with pytest.raises(ConfigError, match="no lane takes the model 'm'"):
        Checker([Route(name="x", endpoint=endpoint, models={"n": "n"})]).see(request())
