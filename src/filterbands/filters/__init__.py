"""Filters: how low or high they are, and how that is set and modulated."""

from .bands import EQUAL_AREA, eigenfilters, energy_matrix, filters_low_energy, line, spans
from .batchnorm import recalibrate
from .modulation import modulate, proportion_parameters
from .noise import SpectralNoise
from .penalty import attract_share
from .proportion import bake, set_share
from .shrink import CleanCost, choose_noise, clean_cost, shrink
from .spectrum import LayerSpectrum, ModelSpectrum, analyze

__all__ = [
    "EQUAL_AREA",
    "CleanCost",
    "LayerSpectrum",
    "ModelSpectrum",
    "SpectralNoise",
    "analyze",
    "attract_share",
    "bake",
    "choose_noise",
    "clean_cost",
    "eigenfilters",
    "energy_matrix",
    "filters_low_energy",
    "line",
    "modulate",
    "proportion_parameters",
    "recalibrate",
    "set_share",
    "shrink",
    "spans",
]
