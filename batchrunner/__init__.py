"""Run a file of LLM requests as fast as the rate limits allow, and never pay twice for an answer."""

__version__ = "0.1.0"
