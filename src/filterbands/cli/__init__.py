"""The command line: `filterbands VERB`, one small file a verb, one table."""

import os

# Idle OpenMP threads spin by default, which costs nothing alone and makes two busy processes on the same
# cores five to ten times slower. It is read when torch is loaded, so it comes before the first import of it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from .main import VERBS, main  # the line above must come first

__all__ = ["VERBS", "main"]
