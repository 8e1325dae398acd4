"""The command line: `filterbands VERB`, one small file a verb, one table."""

from .main import VERBS, main

__all__ = ["VERBS", "main"]
