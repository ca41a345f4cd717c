"""A terminal for tests: runs our commands as a user would, each in a process of its own."""

import io
import json
import os
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import pytest

import batchrunner as br
from batchrunner.cli.main import main


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

    def here(self, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """The same in this process, at a tenth of the cost: for commands that send nothing."""
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
        mask = os.umask(0o077)
        with (
            chdir(self.folder),
            mock.patch.dict(os.environ, self.environment | environment, clear=True),
            mock.patch.object(sys, "argv", ["batchrunner", *words]),
            redirect_stdout(out),
            redirect_stderr(err),
            pytest.raises(SystemExit) as left,
        ):
            main()
        os.umask(mask)
        told = []
        for stream in (out, err):
            stream.flush()
            stream.seek(0)
            told.append(stream.read())
        return subprocess.CompletedProcess(words, int(left.value.code or 0), *told)

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
