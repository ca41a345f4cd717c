"""Prompt templates: jinja2 in its sandbox, where a missing column is an error and not an empty string."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchrunner.errors import ConfigError
from batchrunner.jobfile.refusal import Refused

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

OUTPUT_CAP = 16 * 2**20  # characters
OPENERS = ("{{", "{%", "{#")


class Template:
    """A prompt with columns to fill in, compiled once. ``origin`` is where the user wrote it, for messages.

    The columns are there by name, and all together as ``row``, for names such as ``row["unit price"]``.
    The same columns always give the same text: there is no ``random``, no clock, no file to include.
    """

    def __init__(self, source: str, *, origin: str) -> None:
        self._constant = None if any(opener in source for opener in OPENERS) else source
        if self._constant is not None:
            return
        from jinja2 import TemplateSyntaxError

        try:
            self._compiled = _environment().from_string(source)
        except TemplateSyntaxError as error:
            raise ConfigError(f"{origin}: line {error.lineno}: {error.message}; correct the template") from error
        except RecursionError as error:
            raise ConfigError(f"{origin}: nested too deeply; simplify the template") from error

    def render(self, columns: Mapping[str, Any]) -> str:
        """The text for one row; raises Refused."""
        if self._constant is not None:
            return self._constant
        from jinja2 import UndefinedError

        try:
            return _capped(self._compiled.generate({"row": columns, **columns}))
        except Refused:
            raise
        except UndefinedError as error:
            raise Refused(f"template: {error.message}; columns are {', '.join(columns)}") from None
        except Exception as error:  # noqa: BLE001  (a template is a program of the user's: it may raise anything)
            raise Refused(f"template: {type(error).__name__}: {error}") from None


def load(path: str) -> str:
    """The text of a template file; raises ConfigError."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: the template is not UTF-8; save it as UTF-8") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: the template can't be read: {getattr(error, 'strerror', None) or error}") from error


def _capped(pieces: Iterable[str]) -> str:
    text: list[str] = []
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > OUTPUT_CAP:
            raise Refused(f"template: the prompt is longer than {OUTPUT_CAP:,} characters")
        text.append(piece)
    return "".join(text)


def _environment() -> "SandboxedEnvironment":
    from jinja2 import StrictUndefined
    from jinja2.runtime import Context
    from jinja2.sandbox import SandboxedEnvironment

    class Environment(SandboxedEnvironment):
        """The sandbox, minus the one-liner that fills the memory: ``"x" * 10**12``."""

        intercepted_binops = frozenset({"*", "**"})

        def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
            if operator == "**" or isinstance(left, str | list | tuple) or isinstance(right, str | list | tuple):
                raise Refused(f"template: {operator} works on numbers only, and ** not at all")
            return super().call_binop(context, operator, left, right)

    environment = Environment(undefined=StrictUndefined, autoescape=False)
    environment.globals.pop("lipsum")
    environment.filters.pop("random")
    return environment
