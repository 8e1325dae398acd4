"""One self-contained page that tells what was run and what came out."""

from .write import write_report

__all__ = ["write_report"]
