"""One self-contained page that tells what was run and what came out."""

from .probe_page import Probed, write_probe_page
from .write import write_report

__all__ = ["Probed", "write_probe_page", "write_report"]
