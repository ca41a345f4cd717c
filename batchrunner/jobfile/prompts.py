"""Lines that bring a prompt or the columns to fill one in: prompt lines, rows, plain text lines."""

from collections.abc import Mapping
from typing import Any

from batchrunner.errors import ConfigError, JobFileError
from batchrunner.jobfile.bodies import (
    CHAT,
    chat_body,
    check_id,
    check_model,
    check_sensitive,
    made_id,
    request,
)
from batchrunner.jobfile.options import ReadOptions
from batchrunner.jobfile.refusal import Refused
from batchrunner.jobfile.strictjson import WHITESPACE, join, members, parse_object, quote, text_of
from batchrunner.task import Request

SAMPLING = ("max_tokens", "temperature", "top_p")
ID_COLUMNS = ("custom_id", "id")
TEXT_COLUMN = "text"


class PromptLines:
    """Reads ``{"prompt": "…", "system": …, "model": …, "max_tokens": …, "temperature": …, "top_p": …, "id": …}``.

    Only the prompt must be there. Texts keep their bytes. Keys not named here are carried along as the row.
    """

    def __init__(self, options: ReadOptions) -> None:
        self._model = options.given_model
        self._settings = options.settings()
        self._system = options.system_template()

    def __call__(self, raw: bytes, line: int, offset: int) -> Request:
        """Raises Refused."""
        value = parse_object(raw)
        check_sensitive(value)
        prompt = value.get("prompt")
        if not isinstance(prompt, str) or not prompt.strip():
            raise Refused(
                '"prompt" is missing' if "prompt" not in value else '"prompt" must be a string with text in it'
            )
        model = value.get("model") if self._model is None else self._model
        parts = {name: text_of(part) for name, part in members(raw).items()}
        settings = {name: parts.pop(name) for name in ("model", *SAMPLING) if name in parts} | self._settings
        custom_id = made_id(line)
        name = next((name for name in ID_COLUMNS if name in value), None)
        if name is not None:
            custom_id = _row_id(value[name], name=name)
            del parts[name]
        system = parts.pop("system", None)
        if system is not None and not isinstance(value["system"], str):
            raise Refused('"system" must be a string, in quotes')
        if system is None and self._system is not None:
            system = quote(self._system.render(value))
        user = parts.pop("prompt")
        row = join(parts) if parts else None
        return _chat(custom_id, model, user, system, settings, row=row, line=line, offset=offset)


class Rows:
    """Makes requests out of rows: columns go through the templates, and all of them are carried along as the row.

    ``columns`` are the file's, as far as they are known: all of them in CSV, the first object's in JSON lines.
    Raises JobFileError if there is no prompt to put them in, ConfigError for a template or model that can't work.
    """

    def __init__(self, options: ReadOptions, *, path: str, columns: list[str]) -> None:
        template = options.prompt_template()
        if template is None:
            raise JobFileError(
                path,
                f"no prompt in it; columns are {', '.join(columns)}. Try --prompt '… {{{{ {_example(columns)} }}}}'",
            )
        self._prompt = template
        self._system = options.system_template()
        self._model = _needed_model(options)
        self._settings = options.settings()
        self._id_column = options.id_column

    def __call__(self, raw: bytes, line: int, offset: int) -> Request:
        """One line of JSON; raises Refused."""
        columns = parse_object(raw)
        return self.make(columns, raw.decode().strip(WHITESPACE), number=line, line=line, offset=offset)

    def make(self, columns: Mapping[str, Any], row: str, *, number: int, line: int, offset: int) -> Request:
        """``number`` makes the custom_id if no column has one. Raises Refused."""
        custom_id = self._identify(columns, number)
        user = _filled(self._prompt.render(columns))
        system = None if self._system is None else quote(self._system.render(columns))
        return _chat(custom_id, self._model, user, system, self._settings, row=row, line=line, offset=offset)

    def _identify(self, columns: Mapping[str, Any], number: int) -> str:
        if self._id_column is not None:
            if _blank(columns.get(self._id_column)):
                raise Refused(f"the id column {quote(self._id_column)} is empty; fill it or name another one")
            return _row_id(columns[self._id_column], name=self._id_column)
        for name in ID_COLUMNS:
            if not _blank(columns.get(name)):
                return _row_id(columns[name], name=name)
        return made_id(number)


class TextLines:
    """Reads plain text: a line is the prompt, or the column ``text`` of a template if there is one."""

    def __init__(self, options: ReadOptions) -> None:
        self._prompt = options.prompt_template()
        self._system = options.system_template()
        self._model = _needed_model(options)
        self._settings = options.settings()

    def __call__(self, raw: bytes, line: int, offset: int) -> Request:
        """Raises Refused."""
        columns = {TEXT_COLUMN: decode(raw).removesuffix("\r")}
        user = _filled(columns[TEXT_COLUMN] if self._prompt is None else self._prompt.render(columns))
        system = None if self._system is None else quote(self._system.render(columns))
        row = quote(columns)
        return _chat(made_id(line), self._model, user, system, self._settings, row=row, line=line, offset=offset)


def decode(raw: bytes) -> str:
    """The text of a line that is not JSON; raises Refused."""
    if b"\0" in raw:
        raise Refused("a NUL byte is in it; if the file is UTF-16, convert it: iconv -f UTF-16 -t UTF-8")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Refused(f"not UTF-8 at byte {error.start + 1} of the line; save the file as UTF-8") from None


def _chat(
    custom_id: str,
    model: Any,
    user: str,
    system: str | None,
    settings: Mapping[str, str],
    *,
    row: str | None,
    line: int,
    offset: int,
) -> Request:
    """A chat request; ``user``, ``system`` and ``settings`` are JSON texts."""
    name = check_model(model)
    body = chat_body(user, system, settings)
    return request(custom_id, CHAT, body, body.encode(), name, row, line, offset)


def _filled(prompt: str) -> str:
    """A prompt as JSON text, if there is one."""
    if not prompt.strip():
        raise Refused("the prompt came out empty; look at the columns it uses")
    return quote(prompt)


def _blank(cell: Any) -> bool:
    return cell is None or cell == ""


def _row_id(value: Any, *, name: str) -> str:
    """Whole numbers are good names for rows, but in a ``custom_id``, whose type is settled."""
    if value.__class__ is int and name != "custom_id":
        return str(value)
    return check_id(value, name=name)


def _needed_model(options: ReadOptions) -> Any:
    if options.given_model is None:
        raise ConfigError("no model: these lines name none, so give -m/--model")
    return options.given_model


def _example(columns: list[str]) -> str:
    """The column that a first prompt would most likely be about."""
    likely = [name for name in columns if name not in ID_COLUMNS and name.isidentifier()]
    return TEXT_COLUMN if TEXT_COLUMN in columns else next(iter(likely), 'row["…"]')
