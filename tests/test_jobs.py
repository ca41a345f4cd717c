"""The jobs that come with the program load without a rejected line."""

import json
from collections import Counter
from pathlib import Path

import pytest

from batchrunner.jobfile.options import ReadOptions
from batchrunner.jobfile.reader import open_job
from batchrunner.jobfile.shapes import Shape
from batchrunner.task import Request

JOBS = Path(__file__).parent.parent / "jobs"
TICKETS = ReadOptions(model="glm-4.5-air", template=str(JOBS / "tickets.j2"))
PLAIN = ReadOptions()


def load(name: str, options: ReadOptions = PLAIN) -> tuple[Shape, list[Request]]:
    with open_job(str(JOBS / name), options) as reader:
        items = list(reader)
    requests = [item for item in items if isinstance(item, Request)]
    assert len(requests) == len(items)
    return reader.shape, requests


@pytest.mark.parametrize(
    ("name", "options", "shape", "count", "endpoint", "model"),
    [
        ("glosses.jsonl", PLAIN, Shape.BATCH, 300, "chat/completions", "glm-4.5-air"),
        ("reviews-zh.jsonl", PLAIN, Shape.PROMPT, 20, "chat/completions", "glm-4.5-air"),
        ("embeddings.jsonl", PLAIN, Shape.BATCH, 12, "embeddings", "embedding-3"),
        ("tickets.csv", TICKETS, Shape.ROWS, 25, "chat/completions", "glm-4.5-air"),
    ],
)
def test_every_line_of_a_job_becomes_a_request(
    name: str, options: ReadOptions, shape: Shape, count: int, endpoint: str, model: str
) -> None:
    """With ids of its own, long enough for every provider."""
    found, requests = load(name, options)
    assert (found, len(requests)) == (shape, count)
    assert {(request.endpoint, request.model) for request in requests} == {(endpoint, model)}
    assert len({request.custom_id for request in requests}) == count
    assert min(len(request.custom_id) for request in requests) >= 6


def test_glosses_are_sixty_of_each_class_with_their_label() -> None:
    """The label is in the row and, as the id says, the same; the first lines are mixed."""
    _, requests = load("glosses.jsonl")
    labels = [json.loads(request.row or "")["metadata"]["label"] for request in requests]
    assert Counter(labels) == dict.fromkeys(["animal", "plant", "food", "person", "artifact"], 60)
    assert all(request.custom_id.startswith(f"gloss-{label}-") for request, label in zip(requests, labels, strict=True))
    assert len(set(labels[:20])) == 5


def test_reviews_carry_their_label_and_do_not_send_it() -> None:
    """The answer is not in the question."""
    _, requests = load("reviews-zh.jsonl")
    assert {json.loads(request.row or "")["label"] for request in requests} == {"正面", "负面", "中性"}
    assert not any('"label"' in request.body for request in requests)


def test_tickets_are_filled_into_their_template() -> None:
    """Product and text both; a text of two lines stays one ticket."""
    _, requests = load("tickets.csv", TICKETS)
    prompt = json.loads(requests[1].body)["messages"][0]["content"]
    assert requests[1].custom_id == "T-1002"
    assert prompt.startswith("Route this support ticket about Photo App.")
    assert prompt.endswith("the camera.\nPhone: Pixel 8, Android 15.")
