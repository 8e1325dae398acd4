"""The version of this package, and the git revision that it runs from."""

import subprocess
from pathlib import Path

__version__ = "0.1.0"


def git_revision() -> str | None:
    """Return the revision of the checkout that this package runs from, None outside one.

    It ends with `-dirty` where a file of the package itself is another; results that are written into the
    same checkout change nothing.
    """
    here = Path(__file__)
    # A package installed into somebody's environment lies in their checkout, but is no part of it.
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None
    revision = _git(here.parent, "describe", "--always", "--abbrev=12")
    changed = _git(here.parent, "status", "--porcelain", "--", ".")
    return f"{revision}-dirty" if revision and changed else revision


def _git(folder: Path, *command: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *command], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
