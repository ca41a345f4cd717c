"""A terminal for tests: runs our commands as a user would, each in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import batchrunner as br


class Terminal:
    """Runs commands in a folder of its own, with an empty home and an environment without ours."""

    def __init__(self, folder: Path, server: br.Simulator) -> None:
        self.folder, self.server = folder, server
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder / "home")}
        self.environment["PYTHONPATH"] = str(Path(br.__file__).parents[1])  # the package that the tests import
        self.environment |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE")}

    def __call__(
        self, *words: str, stdin: bytes | None = None, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [sys.executable, "-m", "batchrunner", *words],
            cwd=self.folder,
            env=self.environment | environment,
            input=stdin,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return subprocess.CompletedProcess(words, done.returncode, done.stdout.decode(), done.stderr.decode())

    def run(self, *words: str, stdin: bytes | None = None, **environment: str) -> "subprocess.CompletedProcess[str]":
        return self("run", *words, "--base-url", self.server.base_url, stdin=stdin, **environment)

    def write(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text, encoding="utf-8")
        return name

    def lines(self, name: str) -> list[dict[str, object]]:
        return [json.loads(line) for line in (self.folder / name).read_text(encoding="utf-8").splitlines()]


def batch(*texts: str) -> str:
    return "".join(
        json.dumps({"custom_id": f"t{n}", "body": {"model": "m", "messages": [{"role": "user", "content": text}]}})
        + "\n"
        for n, text in enumerate(texts)
    )
