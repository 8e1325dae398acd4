"""Random power spectra: what perturbs every filter's spectrum at once, from in front of the network.

By the convolution theorem `w * (h * x) = (w * h) * x` and `w * (x + n) = w * x + w * n`: a radial gain on the
image is the same gain on the spectrum of every filter that sees it, and energy added to the image is energy
added to every filter's response.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import NoReturn

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from ..engine import settle_kernels
from ..filters import EQUAL_AREA, constant
from ..fourier import filter_images, radius_grid, shape_noise
from ..models import held
from ..types import FloatImages, check_range_of_images
from .division import Division
from .proportion import check_options

BAND_EDGES = (0.5, 2.0, 4.0, 6.0, 8.0, 11.0, 14.0, 17.0, 23.0)
"""Edges of the bands in cycles per 32 pixels; a band's center is the geometric mean of its two."""

CENTERS = tuple(math.sqrt(low * high) / 32 for low, high in pairwise(BAND_EDGES))
"""Centers of the bands in cycles per pixel."""

PROFILE = (0.05, 0.1, 0.2, 0.35, 0.5, 0.8, 1.0, 1.2)
"""Standard deviation of each band's log gain at strength 1, in nepers, from low to high.

Natural images carry some 10,000 times less power in the top band than in the bottom one, so that the spread
must grow with frequency to matter everywhere.
"""

LEARNED = ("", "joint", "separate", "proportion")
"""What `SpectralNoise` learns; the first is nothing."""

# Pixels of reflected border. Opposite edges are then twice as many pixels apart, where little is left of the
# gains' impulse responses; a wider border would cost more than the rest of the module.
_BORDER = 4
_LOW_PASS = 0.7
# The shared gain: minus an exponential of this scale, cut at this depth, in nepers (2 are 17 dB).
_GAIN_SCALE, _GAIN_DEPTH = 0.5, 2.0
# The RMS of the added noise, in units of its mean: an exponential of the first number, cut at the second.
_RMS_SCALE, _RMS_LIMIT = 1.0955, 25 / 6
_SLOPES = (-1.0, 3.0)
_BUMPS = 0.7
_HEAVY_TAILED = 0.3
_KEPT_PIXELS = (0.01, 0.1)
_FEWEST_PIXELS = 8


class SpectralNoise(nn.Module):
    """Perturbs the power spectrum of each image at random in training, and does nothing in evaluation.

    Takes and returns NCHW floats in [0, 1], of any size from 8x8 and any number of channels; one image CHW is
    a batch of one. Place it in front of a network, before its normalization. Of the images that do not stay
    clean, a third gets gains (parts 1 and 2), a third gains and then noise, a third noise (part 3). With one
    of the two kinds off, all of them get the other.

    1. *Radial gain*: the amplitude at radius r is multiplied by `exp(strength * sum_b s_b xi_b phi_b(r))`,
       zero phase, the same in every channel. phi_b are 8 cosine bumps over log radius that sum to 1
       (`BAND_EDGES`), s_b is `PROFILE`, xi_b standard normal; the signs are such that 70 % of the curves
       are low-pass (sum_b s_b xi_b < 0).
    2. *Shared gain*: everything but the mean is multiplied by `exp(-gain * z)`, z exponential of scale 0.5
       cut at 2 (mean 0.46): less contrast.
    3. *Noise* of random spectrum: log power `-a log r + 0.7 sum_b xi_b phi_b(r)`, a uniform on [-1, 3],
       Gaussian of random phase, a share g of its power common to the channels, g uniform on [0, 1]. In 30 %
       of the images only 1 to 10 % of the pixels (some 8 at least) keep it. Its RMS over the image, taken
       before clamping, is exponential of mean `noise`, cut at 25/6 of that.

    Draws come from the default generator of the images' device, as those of dropout do: processes that train
    together need different seeds. Transforms are in float32 also under autocast, or in the float64 of images.

    With `learn`, the strengths become parameters that climb the loss: their gradient is reversed, so that
    they go where the network is weakest. At the start they are as given. Each part's strength is multiplied
    by a factor, and the mean of the squared factors stays 1 (see `Division`). Give them a learning rate of
    their own and no weight decay; `division_parameters` yields them. What is divided:

    - `joint`: one budget over the 8 bands' gains, the shared gain and the level of the noise.
    - `separate`: one budget over the 8 bands' gains and the shared gain, and one for the noise: its level
      stays, and the power of its 8 bands is divided.
    - `proportion`: one budget over the bands below and those above the equal-area cutoff.

    For schedules, `scale` multiplies all strengths and `chance` the chance to be perturbed; both are 1, plain
    attributes, and not part of the state.

    Args:
        strength: Scale of the radial gains; 1 is the profile, 0 switches them off.
        gain: Scale of the shared gain's logarithm; 1 as above, 0 switches it off.
        noise: Mean RMS of the added noise, in units of the images' range; 0 switches it off.
        clean: Chance of each image to stay exactly as it is, in [0, 1].
        clamp: Clamp the result to [0, 1], as a camera would. Without it any range is taken.
        dc: Perturb frequency zero, the mean of each channel, as well.
        padding: `reflect` mirrors 4 pixels of border before the transform; `circular` does not, and opposite
            borders bleed into each other.
        learn: `joint`, `separate` or `proportion`, as above; empty keeps the strengths as given.
        floor: Least square of a factor, in [0, 1]: 0.25 lets no strength fall under half of its start.
        clean_first: Share of every batch, from its beginning, that stays clean, in [0, 1]: for losses that
            compare a clean view with perturbed ones.

    Raises:
        ValueError: An option outside of its range; in training also images that are no floats, outside of
            [0, 1] with `clamp=True`, or too small for the padding.

    Source: our own. That random power in the spectrum of the first layer's filters helps robustness is the
    claim of Jia, Bao, Ma 2020, arXiv:1911.12044; these gains are not from a paper.

    >>> images = torch.rand(8, 3, 32, 32)
    >>> SpectralNoise()(images).shape, bool((SpectralNoise().eval()(images) == images).all())
    (torch.Size([8, 3, 32, 32]), True)
    """

    def __init__(
        self,
        *,
        strength: float = 0.5,
        gain: float = 0.5,
        noise: float = 0.03,
        clean: float = 0.7,
        clamp: bool = True,
        dc: bool = False,
        padding: str = "reflect",
        learn: str = "",
        floor: float = 0.25,
        clean_first: float = 0.0,
    ) -> None:
        super().__init__()
        settle_kernels()
        verb = "SpectralNoise"
        check_options(verb, "a number of at least 0", strength=strength, gain=gain, noise=noise)
        check_options(verb, "a fraction in [0, 1]", highest=1, clean=clean, floor=floor)
        check_options(verb, "a fraction in [0, 1]", highest=1, clean_first=clean_first)
        if learn not in LEARNED:
            known = ", ".join(repr(name) for name in LEARNED[1:])
            raise ValueError(f"SpectralNoise: learn needs {known} or '', got {learn!r}")
        if learn and (strength == 0 or (learn == "separate" and noise == 0)):
            raise ValueError(
                f"SpectralNoise: learn={learn!r} divides strengths that are there; make strength"
                f"{' and noise' if learn == 'separate' else ''} positive"
            )
        if padding not in ("reflect", "circular"):
            raise ValueError(f"SpectralNoise: padding needs 'reflect' or 'circular', got {padding!r}")
        self.strength = strength
        self.gain = gain
        self.noise = noise
        self.clean = clean
        self.clamp = clamp
        self.dc = dc
        self.padding = padding
        self.learn = learn
        self.clean_first = clean_first
        self.scale, self.chance = 1.0, 1.0
        self.gains = Division(_parts(learn, gain, noise), floor=floor) if learn else None
        self.colors = Division(len(PROFILE), floor=floor) if learn == "separate" else None

    def forward(self, images: Shaped[Tensor, "*b c h w"]) -> Shaped[Tensor, "*b c h w"]:
        """Return the images, perturbed where the module is in training mode; never in place."""
        has_gains, has_noise = self.strength > 0 or self.gain > 0, self.noise > 0
        if not self.training or not (has_gains or has_noise):
            return images
        if images.ndim == 3:
            one: Tensor = self(images[None])[0]
            return one
        self._check(images)
        clean = self.clean if self.chance == 1 else 1 - (1 - self.clean) * self.chance
        # Below `clean` an image stays; above, the rest of the interval is cut in three.
        coin = torch.rand(len(images), device=images.device)
        coin[: round(self.clean_first * len(images))] = -1
        part = (coin - clean) / max(1 - clean, 1e-12) * 3
        gained = part >= 0 if not has_noise else (part >= 0) & (part < 2)
        noised = part >= 0 if not has_gains else part >= 1
        share = (1 - clean) * (2 / 3 if has_gains and has_noise else 1)
        with torch.autocast(images.device.type, enabled=False):
            out = images.to(held.working(images.dtype), copy=True)
            if has_gains:
                out = _changed(out, gained, self._with_gains, share=share)
            if has_noise:
                out = _changed(out, noised, self._with_noise, share=share)
            if self.learn and dist.is_available() and dist.is_initialized():
                # Other processes wait for this one's gradient, even if none of its images is perturbed.
                out = out + 0.0 * sum(parameter.sum() for parameter in self.parameters())
            if self.clamp:
                out = out.clamp_(0, 1)
            return out.to(images.dtype)

    def extra_repr(self) -> str:
        """Return the options."""
        names = ("strength", "gain", "noise", "clean", "clamp", "dc", "padding")
        options = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        if not self.learn:
            return options
        now = (f"{name}={_shown(values)}" for name, values in self.strengths().items())
        return f"{options}, learn={self.learn!r}; now {', '.join(now)}"

    def strengths(self) -> dict[str, list[float]]:
        """Return what is perturbed at `scale` 1: `bands` and `gain` in nepers, `noise` in units of the range.

        `bands` are the standard deviations of the 8 bands' log gains, `gain` is the mean of the shared one.
        `colors` are what is added to the log power of the noise's 8 bands, before its level is set.

        >>> [round(value, 3) for value in SpectralNoise().strengths()["bands"]]
        [0.025, 0.05, 0.1, 0.175, 0.25, 0.4, 0.5, 0.6]
        """
        with torch.no_grad():
            bands, gain, noise, colors = self._factors(torch.device("cpu"), torch.float64)
            profile = torch.tensor(PROFILE, dtype=torch.float64)
            mean = _GAIN_SCALE - _GAIN_DEPTH / math.expm1(_GAIN_DEPTH / _GAIN_SCALE)
            return {
                "bands": (self.strength * profile * bands).tolist(),
                "gain": [float(self.gain * mean * gain)],
                "noise": [float(self.noise * noise)],
                "colors": colors.tolist(),
            }

    def _factors(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return factors of band gains, shared gain and noise, and what is added to the noise's log power."""
        one, count = torch.ones((), device=device, dtype=dtype), len(PROFILE)
        bands, colors = one.expand(count), torch.zeros(count, device=device, dtype=dtype)
        if self.gains is None:
            return bands, one, one, colors
        factors = self.gains.factors().to(device, dtype)
        if self.colors is not None:
            colors = 2 * self.colors.factors().to(device, dtype).log()
        if self.learn == "proportion":
            return factors[_is_high().long().to(device)], one, one, colors
        rest = iter(factors[count:])
        gain = next(rest) if self.gain > 0 else one
        noise = next(rest) if self.noise > 0 and self.learn == "joint" else one
        return factors[:count], gain, noise, colors

    def __prepare_scriptable__(self) -> NoReturn:
        """Refuse `torch.jit.script`, which calls this first.

        Raises:
            ValueError: Always; the line says what to do.
        """
        raise ValueError(
            "SpectralNoise cannot be scripted by torch.jit; script the network behind it, since in "
            "evaluation it does nothing, or take torch.compile or, in evaluation mode, torch.export"
        )

    def _check(self, images: Tensor) -> None:
        if images.ndim != 4 or not images.is_floating_point():
            raise ValueError(
                "SpectralNoise needs floats in [0, 1] of shape (b, c, h, w) or (c, h, w), got "
                f"{images.dtype} of shape {tuple(images.shape)}"
            )
        height, width = images.shape[2:]
        least = _BORDER + 1 if self.padding == "reflect" else 2
        if min(height, width) < least:
            raise ValueError(
                f"SpectralNoise with {self.padding} padding needs images of at least {least} pixels per "
                f"side, got {height}x{width}; enlarge them"
            )
        if self.clamp:
            remedy = "place it before the normalization, or pass clamp=False"
            check_range_of_images("SpectralNoise", images, remedy)

    def _with_gains(self, images: FloatImages) -> FloatImages:
        count, device, dtype = len(images), images.device, images.dtype
        band_factors, gain_factor, _, _ = self._factors(device, dtype)
        border = _BORDER if self.padding == "reflect" else 0
        padded = F.pad(images, (border,) * 4, mode="reflect") if border else images
        size = padded.shape[2:]
        log_gain = torch.zeros(count, size[0] * (size[1] // 2 + 1), device=device, dtype=dtype)
        if self.strength > 0:
            bumps = _table(_bumps, padded, half=True)
            profile = torch.tensor(PROFILE, device=device, dtype=dtype)
            spread = torch.randn(count, len(PROFILE), device=device, dtype=dtype) * (profile * band_factors)
            is_low_pass = torch.rand(count, 1, device=device) < _LOW_PASS
            is_falling = spread.sum(dim=1, keepdim=True) < 0
            spread = torch.where(is_low_pass == is_falling, spread, -spread)
            log_gain = self.strength * self.scale * spread @ bumps
        if self.gain > 0:
            depth = _cut_exponential(count, _GAIN_SCALE, _GAIN_DEPTH, device=device, dtype=dtype)
            log_gain = log_gain - self.gain * self.scale * gain_factor * depth[:, None]
        if not self.dc:
            log_gain[:, 0] = 0
        factor = log_gain.exp_().reshape(count, size[0], size[1] // 2 + 1)
        result = filter_images(padded, factor[:, None])
        if border:
            result = result[:, :, border:-border, border:-border]
        if not self.dc and border:
            # The mirrored border counts in the transform's frequency zero, but is not part of the image.
            result = result + (images.mean(dim=(2, 3), keepdim=True) - result.mean(dim=(2, 3), keepdim=True))
        return result

    def _with_noise(self, images: FloatImages) -> FloatImages:
        count, device, dtype = len(images), images.device, images.dtype
        channels, height, width = images.shape[1:]
        low, high = _SLOPES
        slope = low + (high - low) * torch.rand(count, 1, device=device, dtype=dtype)
        waves = _BUMPS * torch.randn(count, len(PROFILE), device=device, dtype=dtype)
        bumps, log_radius = _table(_bumps, images, half=False), _table(_log_radius, images, half=False)
        _, _, noise_factor, colors = self._factors(device, dtype)
        log_power = (waves + colors) @ bumps - slope * log_radius
        if not self.dc:
            log_power[:, 0] = -math.inf
        amplitude = (log_power / 2).exp().reshape(count, height, width)
        # One field per channel and one for all of them, two fields per pair.
        pairs = channels // 2 + 1
        white = torch.randn(count, pairs, height, width, 2, device=device, dtype=dtype)
        fields = shape_noise(white, amplitude)
        common = torch.rand(count, 1, 1, 1, device=device, dtype=dtype)
        noise = fields[:, :channels] * (1 - common).sqrt()
        noise = torch.addcmul(noise, fields[:, channels : channels + 1], common.sqrt())
        is_tailed = torch.rand(count, device=device) < _HEAVY_TAILED
        sparse = partial(_sparse, keep_mean=self.dc)
        noise = _changed(noise, is_tailed, sparse, share=_HEAVY_TAILED)
        rms = noise.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        level = _cut_exponential(
            count, _RMS_SCALE * self.noise, _RMS_LIMIT * self.noise, device=device, dtype=dtype
        )
        level = level * (self.scale * noise_factor)
        return torch.addcmul(
            images, noise, level[:, None, None, None] / rms.clamp_min(torch.finfo(dtype).tiny)
        )


def _parts(learn: str, gain: float, noise: float) -> int:
    """Return how many strengths share the budget of the gains."""
    if learn == "proportion":
        return 2
    return len(PROFILE) + (gain > 0) + (noise > 0 and learn == "joint")


def _is_high() -> Bool[Tensor, " bands"]:
    """Return which bands have their center above the equal-area cutoff."""
    return torch.tensor(CENTERS) > EQUAL_AREA


def _shown(values: Sequence[float]) -> str:
    return f"({', '.join(f'{value:.3g}' for value in values)})"


def _changed(
    images: Float[Tensor, "b c h w"],
    chosen: Bool[Tensor, " b"],
    change: Callable[[Float[Tensor, "n c h w"]], Float[Tensor, "n c h w"]],
    *,
    share: float,
) -> Float[Tensor, "b c h w"]:
    """Return the images, in place, with those changed that were chosen with the chance `share` each.

    In compiled code the number of chosen images would break the graph. A fixed number goes through the change
    there, which falls short of the chosen ones less than once in ten million batches.
    """
    if torch.compiler.is_compiling():
        count = len(images)
        most = min(count, int(share * count + 6 * math.sqrt(share * (1 - share) * count)) + 4)
        places = chosen.byte().argsort(descending=True)[:most]
        before = images[places]
        after = torch.where(chosen[places][:, None, None, None], change(before), before)
        return images.index_copy(0, places, after)
    places = chosen.nonzero()[:, 0]
    # Transforms of no image at all are an error on some processors.
    if len(places) > 0:
        images[places] = change(images[places])
    return images


def _sparse(noise: Float[Tensor, "n c h w"], *, keep_mean: bool) -> Float[Tensor, "n c h w"]:
    """Return the noise on a random few pixels of each image, at 0 elsewhere."""
    count, _, height, width = noise.shape
    low, high = _KEPT_PIXELS
    share = low + (high - low) * torch.rand(count, 1, 1, 1, device=noise.device)
    # On tiny images a hundredth of the pixels is often none.
    share = share.clamp_min(_FEWEST_PIXELS / (height * width))
    kept = (torch.rand(count, 1, height, width, device=noise.device) < share).to(noise.dtype)
    noise = noise * kept
    if keep_mean:
        return noise
    mean: Tensor = noise.sum(dim=(2, 3), keepdim=True) / kept.sum(dim=(2, 3), keepdim=True).clamp_min(1)
    return noise - mean * kept


def _cut_exponential(
    count: int, scale: float, limit: float, *, device: torch.device, dtype: torch.dtype
) -> Float[Tensor, " n"]:
    """Return draws of the exponential distribution of a scale, given that they are below the limit."""
    chance = torch.rand(count, device=device, dtype=dtype) * -math.expm1(-limit / scale)
    drawn: Tensor = -scale * torch.log1p(-chance)
    return drawn


def _table(constants: Callable[..., Tensor], images: FloatImages, *, half: bool) -> Float[Tensor, "..."]:
    """Return `_bumps` or `_log_radius` for images, also in compiled code, which cannot look into a memory."""
    height, width = images.shape[2:]
    if torch.compiler.is_compiling():
        # An operator of its own, since the compiler would stop at the lock of `settle_kernels`.
        found: Tensor = _compiled_table(constants is _bumps, height, width, half, images.device, images.dtype)
        return found
    return constants(height, width, half=half, device=images.device, dtype=images.dtype)


@torch.library.custom_op("filterbands::spectral_noise_table", mutates_args=())
def _compiled_table(
    is_bumps: bool, height: int, width: int, half: bool, device: torch.device, dtype: torch.dtype
) -> Tensor:
    found = (_bumps if is_bumps else _log_radius)(height, width, half=half, device=device, dtype=dtype)
    # Compiled code may write into what an operator returns.
    return found.clone()


@_compiled_table.register_fake
def _(
    is_bumps: bool, height: int, width: int, half: bool, device: torch.device, dtype: torch.dtype
) -> Tensor:
    frequencies = height * (width // 2 + 1 if half else width)
    return torch.empty((len(PROFILE), frequencies) if is_bumps else frequencies, device=device, dtype=dtype)


@constant
def _log_radius(
    height: int, width: int, *, half: bool, device: torch.device, dtype: torch.dtype
) -> Float[Tensor, " v"]:
    """Return the logarithm of each frequency's radius; frequency zero counts as the lowest next to it."""
    radius = radius_grid(height, width, half=half).double()
    radius[0, 0] = radius[radius > 0].min()
    return radius.log().flatten().to(device, dtype)


@constant
def _bumps(
    height: int, width: int, *, half: bool, device: torch.device, dtype: torch.dtype
) -> Float[Tensor, "bands v"]:
    """Return the bands' bumps at every frequency: at each, they sum to 1."""
    edges = torch.tensor(BAND_EDGES, dtype=torch.float64) / 32
    centers = (edges[:-1] * edges[1:]).log() / 2
    radius = _log_radius(height, width, half=half, device=torch.device("cpu"), dtype=torch.float64)
    # Each frequency's place among the centers, from 0 to 7; a bump is cos^2 of the distance in places.
    after = torch.searchsorted(centers, radius).clamp(1, len(centers) - 1)
    before = centers[after - 1]
    place = (after - 1 + (radius - before) / (centers[after] - before)).clamp(0, len(centers) - 1)
    distance = (place - torch.arange(len(centers))[:, None]).abs().clamp(0, 1)
    return torch.cos(math.pi / 2 * distance).square().to(device, dtype)
