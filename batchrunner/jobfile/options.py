"""How a job file is to be read: the options, and what two readings of one file must have in common."""

import json
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from batchrunner.errors import ConfigError
from batchrunner.jobfile.bodies import SENSITIVE
from batchrunner.jobfile.shapes import INPUT_FORMATS
from batchrunner.jobfile.strictjson import quote
from batchrunner.jobfile.template import Template, load


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """What the user says about a job file.

    ``model`` and ``params`` (names of the body with their JSON values) win over what a line says, in every shape.
    ``system`` is for the shapes that have no messages of their own, a prompt line's own ``system`` wins over it.
    ``prompt`` is the text of a template, ``template`` the path of a file with one. ``id_column`` names the column that
    holds the custom_id. ``input_format`` is "auto", "batch", "body", "prompt", "rows" or "lines".
    Raises ConfigError for what can't be meant.
    """

    model: str | None = None
    system: str | None = None
    prompt: str | None = None
    template: str | None = None
    id_column: str | None = None
    input_format: str = "auto"
    params: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if self.input_format not in INPUT_FORMATS:
            raise ConfigError(f"--input-format {self.input_format}: choose one of {', '.join(INPUT_FORMATS)}")
        if self.prompt is not None and self.template is not None:
            raise ConfigError("--prompt and --template both give the prompt; keep one of them")
        if self.model is not None and not self.model.strip():
            raise ConfigError("-m/--model is empty; name a model")
        try:
            json.dumps(dict(self.params), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"--param: not a JSON value ({error}); write numbers, true, null or quoted text"
            ) from error
        for name, _ in self.params:
            if reason := SENSITIVE.get(name.lower()):
                raise ConfigError(f"--param {name}: {reason}")
        if "messages" in dict(self.params):
            raise ConfigError("--param messages: messages come from the job file; use --prompt and --system")

    @property
    def given_model(self) -> Any:
        """The model that every request gets, None if each line has to name its own."""
        return dict(self.params).get("model", self.model)

    @property
    def has_prompt(self) -> bool:
        return self.prompt is not None or self.template is not None

    def prompt_template(self) -> Template | None:
        """The template of --prompt or --template. Raises ConfigError if it can't be read or has a syntax error."""
        if self.template is not None:
            return Template(load(self.template), origin=self.template)
        return None if self.prompt is None else Template(self.prompt, origin="--prompt")

    def system_template(self) -> Template | None:
        return None if self.system is None else Template(self.system, origin="--system")

    def settings(self) -> dict[str, str]:
        """What must stand in every body, as JSON text: the model and the params, a param named twice counting last."""
        named = {} if self.model is None else {"model": self.model}
        return {name: quote(value) for name, value in {**named, **dict(self.params)}.items()}

    def digest(self) -> bytes:
        """Sixteen bytes; equal digests read equal requests out of equal bytes. Reads the template file."""
        prompt = self.prompt if self.template is None else load(self.template)
        parts = [self.system, prompt, self.id_column, self.input_format, self.settings()]
        return blake2b(quote(parts).encode(), digest_size=16).digest()
