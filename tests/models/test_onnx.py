"""ONNX files as networks."""

import pickle
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from filterbands.datasets import ImageSet
from filterbands.evaluation import EvaluateConfig, evaluate, model_fingerprint
from filterbands.filters import input_gradient_spectrum
from filterbands.models import OnnxNetwork, is_onnx, load_model

onnx = pytest.importorskip("onnx")


def _write(file: Path, weight: Tensor, batch: int | str, *, kind: str = "FLOAT", inputs: int = 1) -> None:
    """Write a linear network of 8 x 8 images as ONNX."""
    helper, kind_of_images = onnx.helper, onnx.TensorProto.DataType.Value(kind)
    kind_of_weights = kind_of_images if kind == "DOUBLE" else onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("Cast", ["images"], ["cast"], to=kind_of_weights),
        helper.make_node("Flatten", ["cast"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("images", kind_of_images, [batch, 3, 8, 8])][:inputs],
        [helper.make_tensor_value_info("logits", kind_of_weights, [batch, 4])],
        [
            helper.make_tensor("weight", kind_of_weights, list(weight.shape), weight.flatten().tolist()),
            *([] if inputs else [helper.make_tensor("images", 1, [1, 3, 8, 8], [0.0] * 192)]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    file.write_bytes(model.SerializeToString())


def _data() -> ImageSet:
    generator = torch.Generator().manual_seed(1)
    return ImageSet(
        name="noise",
        split="test",
        images=torch.randint(0, 256, (21, 3, 8, 8), generator=generator, dtype=torch.uint8),
        labels=torch.arange(21) % 4,
        classes=("a", "b", "c", "d"),
        index=torch.arange(21),
    )


@pytest.fixture
def weight() -> Tensor:
    return torch.randn(4, 192, generator=torch.Generator().manual_seed(0))


def test_an_onnx_file_is_known_by_its_content(tmp_path: Path, weight: Tensor) -> None:
    _write(tmp_path / "net.bin", weight, "n")
    assert is_onnx(tmp_path / "net.bin")
    from safetensors.torch import save_file

    for length in range(1, 40):
        save_file({"x" * length: weight}, tmp_path / "net.onnx")
        assert not is_onnx(tmp_path / "net.onnx")
    assert not is_onnx(tmp_path / "nothing")
    # TensorFlow's SavedModel: a version, then a message of some length.
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01\x12\xb5\x93\x02\n\x07" + bytes(9))
    assert not is_onnx(tmp_path / "saved_model.pb")


@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_it_scores_as_the_same_network_in_torch(tmp_path: Path, weight: Tensor, batch: int | str) -> None:
    pytest.importorskip("onnxruntime")
    _write(tmp_path / "net.onnx", weight, batch)
    linear = torch.nn.Linear(192, 4, bias=False)
    linear.weight.data = weight
    config = EvaluateConfig(kinds=("contrast",), severities=(1, 4))
    plain = evaluate(torch.nn.Sequential(torch.nn.Flatten(), linear), _data(), config=config)
    network = OnnxNetwork(tmp_path / "net.onnx")
    scores = evaluate(network, _data(), config=config)
    assert {c: a.bits.tolist() for c, a in scores.cells.items()} == {
        c: a.bits.tolist() for c, a in plain.cells.items()
    }
    # A worker gets the file's bytes, and a network is the same before and after it ran.
    sent = pickle.loads(pickle.dumps(network))
    assert model_fingerprint(sent) == model_fingerprint(network) == scores.model
    _write(tmp_path / "net.onnx", weight + 1, batch)
    assert model_fingerprint(OnnxNetwork(tmp_path / "net.onnx")) != scores.model


def test_what_cannot_be_run_is_told_in_one_line(
    tmp_path: Path, weight: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path / "net.onnx", weight, "n")
    with pytest.raises(FileNotFoundError, match="no such file"):
        OnnxNetwork(tmp_path / "none.onnx")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(ValueError, match=r"needs the package onnxruntime; install filterbands\[onnx\]"):
            OnnxNetwork(tmp_path / "net.onnx")
    pytest.importorskip("onnxruntime")
    (tmp_path / "net.onnx").write_bytes((tmp_path / "net.onnx").read_bytes()[:200])
    with pytest.raises(ValueError, match=r"net\.onnx is not a whole ONNX file"):
        OnnxNetwork(tmp_path / "net.onnx")


def test_a_file_without_other_files_keeps_its_bytes_whatever_its_names_are(
    tmp_path: Path, weight: Tensor
) -> None:
    pytest.importorskip("onnxruntime")
    _write(tmp_path / "net.onnx", weight, "n")
    model = onnx.load(tmp_path / "net.onnx")
    model.doc_string = "location"
    onnx.save(model, tmp_path / "named.onnx")
    for name in ("net.onnx", "named.onnx"):
        content = OnnxNetwork(tmp_path / name).content
        assert content.numpy().tobytes() == (tmp_path / name).read_bytes()


def test_a_gradient_of_an_onnx_file_is_refused_in_one_line(tmp_path: Path, weight: Tensor) -> None:
    pytest.importorskip("onnxruntime")
    _write(tmp_path / "net.onnx", weight, "n")
    for mean in (None, (0.5, 0.5, 0.5)):
        with pytest.raises(ValueError, match="outputs and no gradients"):
            input_gradient_spectrum(load_model(tmp_path / "net.onnx", mean=mean), _data())


def test_images_are_cast_to_the_precision_of_the_input(tmp_path: Path, weight: Tensor) -> None:
    pytest.importorskip("onnxruntime")
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    for kind in ("FLOAT", "DOUBLE", "FLOAT16"):
        _write(tmp_path / f"{kind}.onnx", weight, 2, kind=kind)
        found = load_model(tmp_path / f"{kind}.onnx")(images)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, images.flatten(1) @ weight.T, atol=2e-2, rtol=1e-2)


def test_a_network_of_bytes_gets_levels_and_refuses_normalized_images(tmp_path: Path, weight: Tensor) -> None:
    pytest.importorskip("onnxruntime")
    file = tmp_path / "net.onnx"
    _write(file, weight, 2, kind="UINT8")
    levels = _data().images
    found = load_model(file)(levels / 255)
    torch.testing.assert_close(found, levels.flatten(1).float() @ weight.T, rtol=1e-4, atol=1e-1)
    scores = evaluate(load_model(file), _data(), config=EvaluateConfig(kinds=("fog",), severities=(3,)))
    assert scores.clean == (found.argmax(1) == _data().labels).double().mean()
    for images in (levels / 255 - 0.5, levels / 127.5, levels / 255 * float("nan")):
        with pytest.raises(ValueError, match=r"net\.onnx takes bytes, and got values from .* without mean"):
            load_model(file)(images)
    with pytest.raises(ValueError, match="without mean and std"):
        load_model(file, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))(levels / 255)


@pytest.mark.parametrize("batch", ["n", 1, 3])
def test_an_empty_batch_is_refused_in_one_line(batch: int | str, tmp_path: Path, weight: Tensor) -> None:
    pytest.importorskip("onnxruntime")
    _write(tmp_path / "net.onnx", weight, batch)
    with pytest.raises(ValueError, match="needs at least one image, got an empty batch"):
        OnnxNetwork(tmp_path / "net.onnx")(torch.zeros(0, 3, 8, 8))


@pytest.mark.parametrize(
    ("batch", "kind", "inputs", "said"),
    [
        ("n", "INT8", 1, r"net\.onnx takes int8 as 'images'; export a network of images as floats"),
        ("n", "BFLOAT16", 1, r"net\.onnx takes bfloat16 as 'images'; export a network of images as floats"),
        (0, "FLOAT", 1, r"net\.onnx takes batches of 0 images; export it with"),
        (1, "FLOAT", 0, r"net\.onnx has no input; export a network of images"),
    ],
)
def test_a_file_that_takes_no_batches_of_floats_is_refused_when_it_is_read(
    batch: int | str, kind: str, inputs: int, said: str, tmp_path: Path, weight: Tensor
) -> None:
    pytest.importorskip("onnxruntime")
    _write(tmp_path / "net.onnx", weight, batch, kind=kind, inputs=inputs)
    with pytest.raises(ValueError, match=said) as caught:
        load_model(tmp_path / "net.onnx")
    assert "\n" not in str(caught.value)
