"""What happened and what to do, in one sentence each, for every class of failure."""

from collections.abc import Mapping
from dataclasses import dataclass

from batchrunner.task import FailureClass


@dataclass(frozen=True, slots=True)
class Hint:
    """Both begin small, so that they can stand within a sentence."""

    happened: str
    what_to_do: str


HINTS: Mapping[FailureClass, Hint] = {
    FailureClass.RATE_LIMIT: Hint(
        "the provider refused it for requests or tokens a minute",
        "if it is longer than others, shorten it; if another program uses the key, set --rpm or --tpm below its limit",
    ),
    FailureClass.CONCURRENCY: Hint(
        "too many requests were in flight at once",
        "run again; if another program uses the key, lower --concurrency",
    ),
    FailureClass.OVERLOADED: Hint(
        "the provider's platform was overloaded",
        "wait some minutes, then batchrunner retry --class overloaded",
    ),
    FailureClass.QUOTA_WINDOW: Hint(
        "an allowance for some hours, the day or the month is used up",
        "run again once it is renewed; nothing is lost meanwhile",
    ),
    FailureClass.QUOTA_EXHAUSTED: Hint(
        "the account has no balance or no plan for this endpoint",
        "top up, or check that key and --base-url belong together, then run again",
    ),
    FailureClass.AUTH: Hint(
        "the key was not accepted",
        "check the key and that it belongs to this --base-url: batchrunner doctor",
    ),
    FailureClass.PERMISSION: Hint(
        "the key may not use this model or endpoint",
        "ask for access in the provider's console, or take another --model",
    ),
    FailureClass.MODEL_NOT_FOUND: Hint(
        "the provider does not know the model",
        "check its spelling in the job file or --model",
    ),
    FailureClass.WRONG_ENDPOINT: Hint(
        "there is no such endpoint under the base URL",
        "check --base-url and the url of the job's lines: batchrunner doctor",
    ),
    FailureClass.BAD_REQUEST: Hint(
        "the provider can't take the request as it stands",
        "see what it says: batchrunner show ID; mend the lines, then run again",
    ),
    FailureClass.CONTEXT_LENGTH: Hint(
        "the prompt is longer than the model's context",
        "shorten it, or take a --model with a longer context",
    ),
    FailureClass.REQUEST_TOO_LARGE: Hint(
        "the request alone is more than the whole limit, so it can never pass",
        "shorten it or lower its max_tokens; raise --tpm if that was set too low",
    ),
    FailureClass.CONTENT_FILTER: Hint(
        "the provider's content filter refused the prompt or the answer",
        "edit the text, or accept and leave it out",
    ),
    FailureClass.SERVER_ERROR: Hint(
        "the provider had an error of its own",
        "wait some minutes, then batchrunner retry --class server_error",
    ),
    FailureClass.MALFORMED_SUCCESS: Hint(
        "the reply said 200 but held no answer",
        "see what came: batchrunner show ID; does --base-url point to an API? If it was a page that is gone now, "
        "batchrunner retry --class malformed_success",
    ),
    FailureClass.EMPTY_REASONING: Hint(
        "the model's reasoning used up max_tokens before it answered; it was charged",
        "raise max_tokens or switch thinking off in the body, then run again",
    ),
    FailureClass.NO_VALID_RESPONSE: Hint(
        "the model came to no answer",
        "edit the prompt, or batchrunner retry --class no_valid_response",
    ),
    FailureClass.RESPONSE_TOO_LARGE: Hint(
        "the answer was larger than what is accepted",
        "lower max_tokens",
    ),
    FailureClass.TRUNCATED: Hint(
        "the answer broke off on its way; it was possibly charged",
        "batchrunner retry --class truncated",
    ),
    FailureClass.TIMEOUT: Hint(
        "no whole answer came in time; it was possibly charged",
        "raise --timeout or lower max_tokens, then batchrunner retry --class timeout",
    ),
    FailureClass.NETWORK: Hint(
        "the connection broke; it was possibly charged",
        "batchrunner retry --class network",
    ),
    FailureClass.UNREACHABLE: Hint(
        "the provider could not be reached; nothing was sent",
        "check the network, --proxy and --base-url, then batchrunner retry --class unreachable",
    ),
    FailureClass.CERTIFICATE: Hint(
        "the server's certificate was not accepted; nothing was sent",
        "behind a company's proxy name its certificate with --ca-file",
    ),
}
_UNKNOWN = Hint("a failure that this version has no word for", "see what came: batchrunner show ID")


def hint(error_class: str) -> Hint:
    """The hint for a class as the database has it; a newer version may have written one that is not known here."""
    try:
        return HINTS[FailureClass(error_class)]
    except ValueError:
        return _UNKNOWN
