"""torchvision's types, and networks of timm, torchvision and transformers, in people's own loops."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

import filterbands as fb
from filterbands.corruptions import corrupt
from filterbands.probes import gradient_spectrum

pytestmark = [
    pytest.mark.vision,
    # Of these packages, at import and in their own code.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
CONFIG = fb.EvaluateConfig(kinds=("fog",), severities=(3,))


def images(count: int = 4, side: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def labels(count: int = 4) -> torch.Tensor:
    return torch.arange(count) % 4


def test_images_of_torchvision_keep_their_type_and_masks_and_boxes_are_left_alone() -> None:
    tv = pytest.importorskip("torchvision.tv_tensors")
    image, mask = tv.Image(images(1)[0]), tv.Mask(torch.ones(3, 32, 32, dtype=torch.uint8))
    boxes = tv.BoundingBoxes(torch.ones(2, 4), format="XYXY", canvas_size=(32, 32))
    expected = corrupt(images(1), "contrast", severity=3, seed=0)[0]
    transform = fb.Corrupting("contrast", severity=3)
    for sample in ((mask, image, boxes, 3), {"masks": mask, "picture": image, "boxes": boxes}):
        made = transform(sample)
        places = list(made) if isinstance(made, dict) else range(4)
        for place in places:
            if sample[place] is image:
                assert type(made[place]) is tv.Image
                assert torch.equal(made[place].as_subclass(torch.Tensor), expected)
            else:
                assert made[place] is sample[place]
    for alone in (image, tv.Image(images())):
        assert type(transform(alone)) is tv.Image
    assert type(transform(tv.Video(images()))) is tv.Video
    with pytest.raises(ValueError, match="found no image"):
        transform((mask, boxes))


def test_a_chain_of_torchvision_s_transforms_takes_pictures_and_floats_are_told_the_remedy() -> None:
    v2 = pytest.importorskip("torchvision.transforms.v2")
    picture = Image.fromarray(images(1)[0].permute(1, 2, 0).numpy())
    corrupting = fb.Corrupting(("contrast", "fog"), severity=(1, 5))
    to_floats = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    seen = v2.Compose([v2.RandomHorizontalFlip(p=1), corrupting, to_floats])(picture)
    assert (seen.shape, seen.dtype) == ((3, 32, 32), torch.float32)
    assert v2.Compose([v2.ToImage(), corrupting])(picture).dtype == torch.uint8
    with pytest.raises(
        ValueError, match=r"got torch\.float32; convert .* or place it before ToTensor or ToDtype"
    ):
        v2.Compose([to_floats, corrupting])(picture)


def network_of(package: str) -> nn.Module:
    torch.manual_seed(0)
    if package == "timm":
        timm = pytest.importorskip("timm")
        return timm.create_model("test_resnet", num_classes=4)
    transformers = pytest.importorskip("transformers")
    if package == "transformers: ResNet":
        sizes: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
        return transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=4, **sizes))
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(num_labels=4, image_size=32, patch_size=8, **sizes)
    return transformers.ViTForImageClassification(config)


@pytest.mark.parametrize("package", ["timm", "transformers: ResNet", "transformers: ViT"])
def test_networks_of_timm_and_transformers_are_evaluated_and_probed_as_they_are(package: str) -> None:
    model, data = network_of(package).eval(), (images(8), labels(8))
    scores = fb.evaluate(model, data, config=CONFIG)
    with torch.inference_mode():
        found = model(data[0].float() / 255)
    logits = found if isinstance(found, torch.Tensor) else found.logits
    assert scores.clean == float((logits.argmax(dim=1) == data[1]).double().mean())
    assert fb.fourier_heatmap(model, data, norm=2.0, limit=1).images == 1
    assert gradient_spectrum(model, data, limit=2).total > 0
    assert fb.analyze(model, data=data[0]).to_json()["layers"]


def test_feature_maps_and_states_are_refused_with_the_reason() -> None:
    timm, transformers = pytest.importorskip("timm"), pytest.importorskip("transformers")
    maps = timm.create_model("test_resnet", features_only=True).eval()
    with pytest.raises(
        ValueError, match=r"gives a list of 0: .* these are feature maps: .* without features_only"
    ):
        fb.evaluate(maps, (images(side=64), labels()), config=CONFIG)
    # Its filters can be seen all the same.
    assert fb.analyze(maps, data=images(side=64)).to_json()["layers"]
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    states = transformers.ViTModel(transformers.ViTConfig(image_size=32, patch_size=8, **sizes)).eval()
    with pytest.raises(
        ValueError, match=r"gives a BaseModelOutputWithPooling of last_hidden_state: .*expected a"
    ):
        fb.evaluate(states, (images(), labels()), config=CONFIG)


def test_the_auxiliary_head_of_torchvision_s_networks_is_no_obstacle() -> None:
    models = pytest.importorskip("torchvision.models")
    segmenting = models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None).eval()
    with pytest.raises(ValueError, match=r"gives a OrderedDict of out: .*these are feature maps"):
        fb.evaluate(segmenting, (images(), labels()), config=CONFIG)


def test_data_sets_of_torchvision_are_read_through_a_loader_or_as_they_are() -> None:
    torchvision = pytest.importorskip("torchvision")
    v2 = pytest.importorskip("torchvision.transforms.v2")
    plain = torchvision.datasets.FakeData(6, image_size=(3, 32, 32), num_classes=4)
    to_floats = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    floats = torchvision.datasets.FakeData(6, (3, 32, 32), num_classes=4, transform=to_floats)
    model = network_of("timm").eval()
    arrays = np.stack([np.asarray(image) for image, _ in plain]), [int(label) for _, label in plain]
    expected = fb.evaluate(model, arrays, config=CONFIG).to_json()
    for data in (plain, DataLoader(floats, batch_size=4), floats):
        assert fb.evaluate(model, data, config=CONFIG).to_json()["kinds"] == expected["kinds"]
