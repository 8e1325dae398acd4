"""For tests of real networks: a skip without the packages, versions in the header, a table at the end."""

import os
import platform
from collections import defaultdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pytest

NEEDED = ("torchvision", "timm", "transformers", "torchmetrics")
PACKAGES = ("torch", *NEEDED, "onnx", "onnxruntime", "onnxscript", "numpy")


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def pytest_report_header() -> str:
    versions = ", ".join(f"{package} {installed(package)}" for package in PACKAGES)
    return f"Python {platform.python_version()}, {versions}; {os.cpu_count()} processors"


@pytest.fixture(scope="session", autouse=True)
def packages() -> None:
    for package in NEEDED:
        pytest.importorskip(package, reason=f"{package} is not installed; make test-vision installs it")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print a table of networks and verbs from what the tests recorded (`record_property`)."""
    cells: dict[str, dict[str, str]] = defaultdict(dict)
    for outcome in ("passed", "failed", "error", "skipped", "xfailed"):
        for report in terminalreporter.stats.get(outcome, []):
            said = dict(getattr(report, "user_properties", ()))
            if "verb" in said and (report.when == "call" or outcome != "passed"):
                result = said.get("result", "yes") if outcome == "passed" else outcome
                cells[said["network"]][said["verb"]] = result
    if not cells:
        return
    verbs = sorted({verb for row in cells.values() for verb in row}, key=str.lower)
    terminalreporter.section("networks and verbs")
    terminalreporter.line(f"| network | {' | '.join(verbs)} |")
    terminalreporter.line(f"|---|{'---|' * len(verbs)}")
    for network, row in sorted(cells.items()):
        terminalreporter.line(f"| {network} | {' | '.join(row.get(verb, '-') for verb in verbs)} |")
