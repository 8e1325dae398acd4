"""What a network gives, in every form, through all that asks it for an answer."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from filterbands.control import choose_noise, clean_cost, recalibrate, shrink
from filterbands.datasets import ImageSet, load_data
from filterbands.evaluation import EvaluateConfig, evaluate
from filterbands.filters import SpectrumLogger, analyze, input_gradient_spectrum
from filterbands.probes import ProbeConfig, fourier_heatmap, gradient_spectrum, pass_curves, vulnerability


class Output(dict[str, Tensor]):
    """Entries as attributes too, as Hugging Face gives them."""

    @property
    def logits(self) -> Tensor:
        return self["logits"]


FORMS: dict[str, Callable[[Tensor], Any]] = {
    "attribute": lambda logits: SimpleNamespace(loss=None, logits=logits),
    "mapping": lambda logits: {"loss": None, "logits": logits},
    "output": lambda logits: Output(logits=logits, hidden_states=logits[:, :1]),
    "list": lambda logits: [logits],
    "tuple": lambda logits: (logits,),
}


class Network(nn.Module):
    def __init__(self, form: Callable[[Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv1, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.linear = nn.Linear(6, 4)
        self.form = form

    def forward(self, images: Tensor) -> Any:
        return self.form(self.linear(self.norm(self.conv1(images)).relu().mean(dim=(2, 3))))


def images_of(count: int) -> ImageSet:
    data = load_data("planted").subset(torch.arange(count))
    return ImageSet(
        name="few",
        split="test",
        images=data.images[:, :, :12, :12].contiguous(),
        labels=data.labels % 4,
        classes=("a", "b", "c", "d"),
        index=data.index,
    )


def answers(network: nn.Module) -> list[Any]:
    """Return what every door gives for this network."""
    data = images_of(16)
    config = EvaluateConfig(kinds=("contrast",), severities=(3,), logits=True)
    found: list[Any] = [
        [(cell, one.predictions) for cell, one in evaluate(network, data, config=config).cells.items()],
        evaluate(network, data, config=config, mean=(0.5, 0.5, 0.5)).clean,
        fourier_heatmap(network, data, norm=2.0).to_json(),
        fourier_heatmap(network, data, norm=2.0, layer="conv1").to_json(),
        pass_curves(network, data).to_json(),
        gradient_spectrum(network, data).to_json(),
        input_gradient_spectrum(network, data).to_json(),
        analyze(network, data=data, fold_batch_norm=True).to_json(),
        vulnerability(network, images=data.images[:2].float() / 255).to_json(),
        clean_cost(network, network, data).before,
        str(choose_noise(network, data, data, budget=0.9)),
    ]
    SpectrumLogger(network, example=data.images[:2].float() / 255).step()
    recalibrate([data.images.float() / 255], network)
    shrink(network, data)
    return [*found, network.norm.running_mean.tolist(), network.conv1.weight.tolist()]  # type: ignore[union-attr,operator]


@pytest.fixture(scope="module")
def of_a_tensor() -> str:
    return str(answers(Network(lambda logits: logits)))


@pytest.mark.parametrize("form", FORMS)
def test_logits_are_found_in_every_common_form_by_all_that_asks_for_them(form: str, of_a_tensor: str) -> None:
    assert str(answers(Network(FORMS[form]))) == of_a_tensor


@pytest.mark.parametrize(
    "door",
    [
        lambda network, data: evaluate(network, data),
        lambda network, data: fourier_heatmap(network, data, norm=2.0),
        lambda network, data: pass_curves(network, data),
        lambda network, data: gradient_spectrum(network, data),
        lambda network, data: input_gradient_spectrum(network, data),
        lambda network, data: clean_cost(network, network, data),
    ],
)
def test_other_outputs_are_refused_with_the_line_that_takes_the_right_part(
    door: Callable[[nn.Module, ImageSet], Any],
) -> None:
    data = images_of(4)
    auxiliary = Network(lambda logits: {"out": logits, "map": logits[:, :, None, None]})
    with pytest.raises(
        ValueError, match=r"gives a dict of out: \(\d+, 4\), map:.*; give Logits\(model\)"
    ) as told:
        door(auxiliary, data)
    # The line itself, as a user would paste it.
    place = {"torch": torch}
    exec(str(told.value).partition("right part: ")[2], place)
    wrapped: Any = place["Logits"](auxiliary)
    assert torch.equal(wrapped(torch.ones(2, 3, 12, 12)), auxiliary(torch.ones(2, 3, 12, 12))["out"])
    door(wrapped, data)
    with pytest.raises(
        ValueError, match=r"feature maps: make the network with its classifier.*features_only"
    ):
        door(Network(lambda logits: [logits[:, :, None, None]] * 2), data)
    with pytest.raises(ValueError, match=r"gives a NoneType, .* none is in it"):
        door(Network(lambda _: None), data)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_compiled_network_may_give_a_mapping() -> None:
    data, config = images_of(20), EvaluateConfig(kinds=("none",), compile=True, batch_size=16)
    network, plain = Network(FORMS["mapping"]), Network(lambda logits: logits)
    assert evaluate(network, data, config=config).clean == evaluate(plain, data).clean
    heatmap = fourier_heatmap(network, data, norm=2.0, config=ProbeConfig(compile=True, batch_size=20))
    torch.testing.assert_close(
        heatmap.error, fourier_heatmap(plain, data, norm=2.0).error, rtol=0, atol=0.051
    )
