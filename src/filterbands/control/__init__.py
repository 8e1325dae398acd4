"""Control: how the proportion of filters is set, learned, perturbed and folded back."""

from ..models import bake_weights
from .bake import bake
from .controls import WhiteNoise, equal_gain_blur, set_blur, set_random_share
from .division import division_parameters
from .modulation import modulate, proportion_parameters
from .noise import CENTERS, LEARNED, PROFILE, SpectralNoise
from .penalty import attract_share
from .proportion import set_share
from .recalibrate import recalibrate
from .shrink import CleanCost, choose_noise, clean_cost, shrink

__all__ = [
    "CENTERS",
    "LEARNED",
    "PROFILE",
    "CleanCost",
    "SpectralNoise",
    "WhiteNoise",
    "attract_share",
    "bake",
    "bake_weights",
    "choose_noise",
    "clean_cost",
    "division_parameters",
    "equal_gain_blur",
    "modulate",
    "proportion_parameters",
    "recalibrate",
    "set_blur",
    "set_random_share",
    "set_share",
    "shrink",
]
