"""The version of this package, and the git revision of its checkout."""

import subprocess
from pathlib import Path

__version__ = "0.2.0"


def git_revision() -> str | None:
    """Return the git revision of the checkout that this package runs from, None without a checkout.

    The revision ends with `-dirty` if a file of the package differs. Other files of the checkout, such as
    results, do not count.
    """
    here = Path(__file__)
    # A package in a virtual environment inside a checkout is not a part of that checkout.
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None
    revision = _git(here.parent, "describe", "--always", "--abbrev=12")
    changed = _git(here.parent, "status", "--porcelain", "--", ".")
    return f"{revision}-dirty" if revision and changed else revision


def _git(folder: Path, *command: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *command],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
