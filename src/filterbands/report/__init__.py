"""One self-contained page that tells what was run and what came out."""

from ..filters import Analyzed
from .probe_page import Probed, write_probe_page
from .report_page import write_report
from .spectrum_page import write_spectra

__all__ = ["Analyzed", "Probed", "write_probe_page", "write_report", "write_spectra"]
