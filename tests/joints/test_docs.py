"""What the docs show works as shown: the commands of a page in their order, and the notebook."""

import doctest
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from filterbands.cli import main
from filterbands.evaluation import load_scores

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Networks of other packages are in tests/vision; published weights are downloaded.
ZOO = ("timm:", "torchvision:")


def steps(page: Path) -> Iterator[tuple[int, str | doctest.Example]]:
    """Yield the examples and the commands of a page by the line that they stand in."""
    text = page.read_text()
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start())
        for command in block[1].replace("\\\n", " ").splitlines():
            yield line, command
    for example in doctest.DocTestParser().get_examples(text):
        yield example.lineno, example


def run_page(page: Path, prepare: dict[str, Any]) -> list[str]:
    """Do what a page shows, from top to bottom, and return the commands that ran."""
    names: dict[str, Any] = {}
    done = []
    for _, step in sorted(steps(page), key=lambda step: step[0]):
        if isinstance(step, doctest.Example):
            # What examples return is compared by the doctests of `make check`.
            exec(compile(step.source, "<example>", "single"), names)
            continue
        words = shlex.split(step)
        assert words[0] == "filterbands", step
        missing = next((word for word in prepare if any(word in one for one in words)), None)
        if any(word.startswith(ZOO) for word in words) or (missing and not prepare[missing]()):
            continue
        assert main(words[1:]) == 0, step
        done.append(step)
    return done


def small_onnx() -> bool:
    """Write net.onnx into the working directory, as another framework would; False without onnx."""
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError:
        return False
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    weight = onnx.numpy_helper.from_array(torch.randn(10, 3 * 32 * 32).numpy(), "weight")
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["images"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weight"], ["logits"], transB=1),
        ],
        "linear",
        [helper.make_tensor_value_info("images", real, ["n", 3, 32, 32])],
        [helper.make_tensor_value_info("logits", real, ["n", 10])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    Path("net.onnx").write_bytes(model.SerializeToString())
    return True


def weights_of_mynets() -> bool:
    """Write weights.pt, of the network that the page's module builds."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    )
    torch.save(net.state_dict(), "weights.pt")
    return True


# Of Lightning, about workers and torch's own deprecations.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_what_one_has_is_brought_by_the_lines_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare = {"net.onnx": small_onnx, "weights.pt": weights_of_mynets}
    done = run_page(ROOT / "docs" / "bring-your-own.md", prepare)
    assert len(done) >= 12


@pytest.mark.slow
def test_the_first_five_minutes_end_with_a_report_and_the_gain_that_the_page_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(ROOT / "docs" / "start.md", {})
    assert Path("report.html").stat().st_size > 10_000
    found = {scores.name: scores.average_at_hand() for scores in load_scores("results.db")}
    standard, spectral = found["standard"], found["spectral"]
    assert standard is not None
    assert spectral is not None
    assert spectral.accuracy > standard.accuracy + 0.02


@pytest.mark.slow
# Of Jupyter's packages.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::RuntimeWarning")
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(ROOT / "notebooks" / "first-look.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    told = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    shares = [float(share) for share in re.findall(r"18 kinds\s+([\d.]+)%", told)]
    assert len(shares) == 2
    assert shares[1] > shares[0] + 2
    assert (tmp_path / "report.html").exists()
