"""ONNX files through every door: all that changes their answers is in their key."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from filterbands.cli import main
from filterbands.datasets import load_data
from filterbands.evaluation import EvaluateConfig, evaluate, load_scores, model_fingerprint
from filterbands.models import OnnxNetwork, load_model, scaled

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx.external_data_helper import set_external_data  # noqa: E402

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.5)


def _tensor(name: str, values: Tensor) -> Any:
    return onnx.numpy_helper.from_array(values.numpy(), name)


def _initializer(weight: Tensor) -> tuple[list[Any], list[Any]]:
    return [onnx.helper.make_node("Gemm", ["flat", "weight"], ["logits"], transB=1)], [
        _tensor("weight", weight)
    ]


def _constant(weight: Tensor) -> tuple[list[Any], list[Any]]:
    made = onnx.helper.make_node("Constant", [], ["weight"], value=_tensor("value", weight))
    return [made, *_initializer(weight)[0]], []


def _subgraph(weight: Tensor) -> tuple[list[Any], list[Any]]:
    """Return a network whose weights lie in both branches of a condition."""
    kind = onnx.TensorProto.FLOAT
    branches = [
        onnx.helper.make_graph(
            [onnx.helper.make_node("Gemm", ["flat", name], [f"{name}_out"], transB=1)],
            name,
            [],
            [onnx.helper.make_tensor_value_info(f"{name}_out", kind, ["n", 3])],
            [_tensor(name, weight)],
        )
        for name in ("yes", "no")
    ]
    node = onnx.helper.make_node(
        "If", ["condition"], ["logits"], then_branch=branches[0], else_branch=branches[1]
    )
    return [node], [_tensor("condition", torch.tensor(True))]


KINDS: dict[str, Callable[[Tensor], tuple[list[Any], list[Any]]]] = {
    "initializer": _initializer,
    "constant": _constant,
    "subgraph": _subgraph,
}


def _tensors(graph: Any) -> list[Any]:
    found = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                found.append(attribute.t)
            if attribute.HasField("g"):
                found += _tensors(attribute.g)
    return found


def _write(folder: Path, seed: int, *, kind: str = "initializer", data: str | None = "net.onnx.data") -> Path:
    """Write a linear network of 16 x 16 images, its weights in another file as torch's exporter does."""
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    weight = torch.randn(3, 768, generator=torch.Generator().manual_seed(seed))
    nodes, initializers = KINDS[kind](weight)
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["images"], ["flat"]), *nodes],
        "linear",
        [helper.make_tensor_value_info("images", real, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("logits", real, ["n", 3])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    folder.mkdir(exist_ok=True)
    if data is not None:
        content = b""
        for tensor in _tensors(model.graph):
            if len(tensor.raw_data) > 8:
                place = len(content)
                content += tensor.raw_data
                set_external_data(tensor, data, offset=place, length=len(tensor.raw_data))
                tensor.ClearField("raw_data")
        (folder / "net.onnx.data").write_bytes(content)
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    return folder / "net.onnx"


@pytest.fixture
def spec(tmp_path: Path) -> str:
    images = np.random.default_rng(0).integers(0, 256, (12, 3, 16, 16), dtype=np.uint8)
    np.savez(tmp_path / "set.npz", images=images, labels=np.arange(12) % 3)
    return f"npz:{tmp_path / 'set.npz'}"


def _run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    caught = capsys.readouterr()
    return code, caught.out, caught.err


def test_two_files_that_differ_in_their_data_file_alone_have_two_results_in_one_database(
    spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = _write(tmp_path / "a", 1), _write(tmp_path / "b", 2)
    assert first.read_bytes() == second.read_bytes()
    db = str(tmp_path / "r.db")
    for file in (first, second):
        words = ["evaluate", str(file), "--data", spec, "--kinds", "contrast", "--db", db, "--json"]
        code, out, err = _run(capsys, *words)
        assert code == 0, err
        whole = _write(tmp_path / "whole", 1 if file == first else 2, data=None)
        expected = evaluate(OnnxNetwork(whole), load_data(spec), config=EvaluateConfig(kinds=("contrast",)))
        assert json.loads(out)["kinds"] == expected.to_json()["kinds"]
    found = load_scores(db)
    assert len({scores.model for scores in found}) == 2
    predictions = [scores.cells["contrast", 1].predictions for scores in found]
    assert not np.array_equal(predictions[0], predictions[1])


@pytest.mark.parametrize("kind", KINDS)
def test_weights_in_other_files_are_found_wherever_they_are_named_and_from_any_folder(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.rand(4, 3, 16, 16)
    whole = OnnxNetwork(_write(tmp_path / "whole", 1, kind=kind, data=None))
    file = _write(tmp_path / "a", 1, kind=kind)
    (tmp_path / "elsewhere").mkdir()
    # A file of the same name where the program was started is not the network's.
    (tmp_path / "elsewhere" / "net.onnx.data").write_bytes(
        bytes((tmp_path / "a" / "net.onnx.data").stat().st_size)
    )
    prints = set()
    for folder, path in ((tmp_path / "elsewhere", file), (tmp_path / "a", Path("net.onnx"))):
        monkeypatch.chdir(folder)
        network = OnnxNetwork(path)
        prints.add(model_fingerprint(network))
        assert torch.equal(network(images), whole(images))
        # What goes to a worker is whole, wherever the worker is.
        sent = pickle.loads(pickle.dumps(network))
        monkeypatch.chdir(tmp_path)
        assert torch.equal(sent(images), whole(images))
    assert len(prints) == 1
    assert prints != {model_fingerprint(OnnxNetwork(_write(tmp_path / "b", 2, kind=kind)))}


def test_a_data_file_that_is_missing_or_cut_is_one_line(
    spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, data = _write(tmp_path / "a", 1), tmp_path / "a" / "net.onnx.data"
    data.write_bytes(data.read_bytes()[:-1])
    cut = _run(capsys, "evaluate", str(file), "--data", spec, "--db", str(tmp_path / "r.db"))
    data.unlink()
    missing = _run(capsys, "evaluate", str(file), "--data", spec, "--db", str(tmp_path / "r.db"))
    for (code, out, err), message in (
        (cut, "is damaged: it ends before the weights"),
        (missing, "keeps weights in net.onnx.data, which is missing"),
    ):
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert message in err


@pytest.mark.parametrize("way", ["absolute", "above", "link", "linked folder"])
def test_a_data_file_outside_of_the_folder_is_refused(way: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_bytes(bytes(3 * 768 * 4))
    name = {
        "absolute": str(secret / "key"),
        "above": "../secret/key",
        "link": "link",
        "linked folder": "in/key",
    }
    file = _write(tmp_path / "a", 1, data=name[way])
    (tmp_path / "a" / "link").symlink_to(secret / "key")
    (tmp_path / "a" / "in").symlink_to(secret)
    with pytest.raises(ValueError, match="is refused: it names weights outside of its folder") as caught:
        OnnxNetwork(file)
    assert "\n" not in str(caught.value)


def test_places_in_a_data_file_that_make_no_sense_are_one_line(tmp_path: Path) -> None:
    for entry, value in (("offset", "-4"), ("length", "-1"), ("offset", "x"), ("length", str(1 << 62))):
        file = _write(tmp_path / "a", 1)
        model = onnx.load(file, load_external_data=False)
        for held in model.graph.initializer[0].external_data:
            if held.key == entry:
                held.value = value
        file.write_bytes(model.SerializeToString())
        with pytest.raises(ValueError, match="is damaged") as caught:
            OnnxNetwork(file)
        assert "\n" not in str(caught.value)


def test_a_cache_of_links_into_one_folder_is_followed(tmp_path: Path) -> None:
    # As the cache of a hub lays files out.
    file = _write(tmp_path / "blobs", 1)
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for name, blob in (("net.onnx", "1234"), ("net.onnx.data", "5678")):
        (tmp_path / "blobs" / name).rename(tmp_path / "blobs" / blob)
        (snapshot / name).symlink_to(os.path.relpath(tmp_path / "blobs" / blob, snapshot))
    images = torch.rand(2, 3, 16, 16)
    whole = OnnxNetwork(_write(tmp_path / "whole", 1, data=None))
    assert torch.equal(OnnxNetwork(snapshot / file.name)(images), whole(images))


def test_weights_beyond_the_limit_of_onnx_are_one_line(tmp_path: Path) -> None:
    file = _write(tmp_path / "a", 1)
    model = onnx.load(file, load_external_data=False)
    for held in model.graph.initializer[0].external_data:
        held.value = str(1 << 31) if held.key == "length" else held.value
    file.write_bytes(model.SerializeToString())
    os.truncate(tmp_path / "a" / "net.onnx.data", 1 << 32)
    os.truncate(_write(tmp_path / "b", 1, data=None), 1 << 31)
    for place in (file, tmp_path / "b" / "net.onnx"):
        with pytest.raises(ValueError, match="more than 2 GiB, the limit of ONNX"):
            OnnxNetwork(place)


def test_every_way_to_normalize_gives_the_same_bits_under_the_same_key(
    spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, db = _write(tmp_path / "a", 1), str(tmp_path / "r.db")
    flags = ["--mean", "0.5,0.4,0.3", "--std", "0.25,0.2,0.5"]
    words = ["evaluate", str(file), "--data", spec, *flags, "--kinds", "contrast", "--db", db]
    assert _run(capsys, *words)[0] == 0
    (told,) = load_scores(db)
    data, config = load_data(spec), EvaluateConfig(kinds=("contrast",))
    for scores in (
        evaluate(load_model(file, mean=MEAN, std=STD), data, config=config),
        evaluate(OnnxNetwork(file), data, config=config, mean=MEAN, std=STD),
        evaluate(load_model(file), data, config=config, mean=MEAN, std=STD),
        evaluate(scaled(OnnxNetwork(file), MEAN, STD), data, config=config),
    ):
        assert scores.model == told.model
        assert all(np.array_equal(told.cells[at].bits, cell.bits) for at, cell in scores.cells.items())
    assert not load_model(file).training


@pytest.mark.slow
def test_probe_takes_an_onnx_file_for_what_outputs_tell_and_says_what_is_left_out(
    spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    file = str(_write(tmp_path / "a", 1))
    words = ["probe", file, "--data", spec, "--db", str(tmp_path / "r.db"), "--json"]
    code, out, err = _run(capsys, *words, "--norm", "0.5", "--only", "heatmap,passes")
    assert code == 0, err
    document = json.loads(out)
    assert document["heatmap"]["error"]
    assert document["passes"]["curves"]
    assert not caplog.messages
    code, out, err = _run(capsys, *words, "--norm", "0.5")
    assert (code, json.loads(out)["gradient"], json.loads(out)["vulnerability"]) == (0, None, None), err
    assert json.loads(out)["heatmap"] == document["heatmap"]
    what = f"{file} is an ONNX file, which gives no gradient and no filters"
    assert caplog.messages == [f"{what}: gradient and vulnerability are left out"]
    for more, message in (
        (["--only", "gradient"], "leave gradient and vulnerability out of --only"),
        (["--compile"], "--compile is for networks of torch"),
        (["--layer", "conv1"], "no module 'conv1'"),
        (["--key", "model"], "--key (key=) chooses among the entries of a checkpoint"),
    ):
        code, out, err = _run(capsys, *words, *more)
        assert (code, out) == (2, "")
        assert message in err


@pytest.mark.parametrize("verb", ["analyze", "bake", "shrink"])
def test_verbs_that_need_weights_by_name_say_so(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [verb, str(_write(tmp_path / "a", 1))]
    if verb != "analyze":
        words += ["--out", str(tmp_path / "out.safetensors")]
    if verb == "shrink":
        words += ["--data", "planted", "--images", "20"]
    code, out, err = _run(capsys, *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "an ONNX file, whose outputs evaluate and probe take; here weights are needed by name" in err
