"""What it costs to count a prompt by a tokenizer, instead of guessing by its bytes, and what it does to a run.

    .venv/bin/python tests/bench/tokens.py

The tokenizer is trained here, on Python's own help texts, and splits words as GLM's and OpenAI's do. A run counts in
the thread that writes the database: the event loop is only held up where that thread does not let go of the
interpreter. How long it is, at the worst, is measured beside a thread that sleeps.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from pydoc_data.topics import topics
from statistics import median

from bench import COMPARED, Row, Simulator, at_least, compare, ours, rate, report, workspace
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from batchrunner.size import Measure, by_bytes
from batchrunner.tokenizer import measure_of

TEXT = "\n".join(topics.values())
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SIZES = (1_000, 10_000, 100_000, 1_000_000)  # bytes of a prompt
BODIES = 20  # of each size
HELD = 0.05  # seconds; an event loop that is held up for longer sends late
TASKS = 2_000  # of 10 kB
SLOWED = 0.4  # times as fast as without, at a server with neither limits nor latency

_number = count()


def main() -> int:
    """Train, measure, print the tables; 1 if a target was missed."""
    with workspace() as folder:
        file = train(folder / "tokenizer.json")
        counted = measure_of(file)
        rows = [row(size, counted) for size in SIZES]
        heads = ("by bytes", "counted", "loop held", "by a sleep")
        missed = report("Milliseconds to measure a prompt (medians), and the longest that a loop was held", heads, rows)
        runs = compare(3, partial(run, folder, "--tokenizer", str(file)), partial(run, folder))
    slowed = at_least(f"{TASKS:,} tasks of 10 kB, 64 in flight, 0 s: by bytes", runs, SLOWED)
    return report("Answers a second of a run whose prompts are counted", COMPARED, [slowed]) or missed


def train(path: Path) -> Path:
    """A tokenizer.json."""
    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(WORDS), "isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, letters])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=30_000, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXT.splitlines(keepends=True), trainer)
    tokenizer.save(str(path))
    return path


def row(size: int, counted: Measure) -> Row:
    """What prompts of one size take."""
    held, idle = asyncio.run(held_up(counted, bodies(size))), asyncio.run(held_up(sleep, bodies(size)))
    times = (seconds(by_bytes, bodies(size)), seconds(counted, bodies(size)), held, idle)
    cells = tuple(f"{1000 * each:.3f}" for each in times)
    return Row(what=f"{size:,} bytes", cells=cells, target=f"loop held < {1000 * HELD:.0f}", met=held < HELD)


def bodies(size: int) -> list[str]:
    """Each of them new: a size is kept for who asks again."""
    return [body(size) for _ in range(BODIES)]


def body(size: int) -> str:
    number = next(_number)
    begin = number * 7919 % len(TEXT)
    text = (TEXT[begin:] + TEXT * (1 + size // len(TEXT)))[:size]
    return json.dumps({"model": "m", "max_tokens": 8, "messages": [{"role": "user", "content": f"{number}: {text}"}]})


def seconds(measure: Measure, prompts: Sequence[str]) -> float:
    return median(_timed(measure, each) for each in prompts)


def _timed(measure: Measure, prompt: str) -> float:
    started = time.perf_counter()
    measure(prompt)
    return time.perf_counter() - started


def sleep(_: str) -> None:
    """What holds up nobody."""
    time.sleep(0.01)


async def held_up(work: Callable[[str], object], prompts: Sequence[str]) -> float:
    """The longest that a loop waits for its turn while a thread works."""
    thread = asyncio.create_task(asyncio.to_thread(lambda: [work(each) for each in prompts]))
    longest, last = 0.0, time.perf_counter()
    while not thread.done():
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    return longest


def run(folder: Path, *options: str) -> float:
    job = folder / "job.jsonl"
    if not job.exists():
        job.write_text("".join(json.dumps({"body": json.loads(body(10_000))}) + "\n" for _ in range(TASKS)))
    with Simulator() as simulator:
        return rate(ours(job, simulator, "-c", "64", *options))


if __name__ == "__main__":
    sys.exit(main())
