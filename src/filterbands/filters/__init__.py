"""Filters: how low or high they are, and how that is set and modulated."""

from .bands import EQUAL_AREA, eigenfilters, energy_matrix, filters_low_energy, line, spans
from .batchnorm import recalibrate
from .controls import WhiteNoise, equal_gain_blur, set_blur, set_random_share
from .depth import GradientSpectrum, effective_first_layer, input_gradient_spectrum
from .figures import Colour, LayerSpectrum, ModelSpectrum, Reading, Sensitivity
from .folding import bake_weights
from .modulation import modulate, proportion_parameters
from .noise import SpectralNoise
from .penalty import attract_share
from .proportion import bake, set_share
from .response import patch_covariances, response_low_energy
from .shrink import CleanCost, choose_noise, clean_cost, shrink
from .spectrum import analyze
from .tables import check_table, write_table
from .trajectory import SpectrumLogger, Trajectory, rows_of, steps_of, trajectory

__all__ = [
    "EQUAL_AREA",
    "CleanCost",
    "Colour",
    "GradientSpectrum",
    "LayerSpectrum",
    "ModelSpectrum",
    "Reading",
    "Sensitivity",
    "SpectralNoise",
    "SpectrumLogger",
    "Trajectory",
    "WhiteNoise",
    "analyze",
    "attract_share",
    "bake",
    "bake_weights",
    "check_table",
    "choose_noise",
    "clean_cost",
    "effective_first_layer",
    "eigenfilters",
    "energy_matrix",
    "equal_gain_blur",
    "filters_low_energy",
    "input_gradient_spectrum",
    "line",
    "modulate",
    "patch_covariances",
    "proportion_parameters",
    "recalibrate",
    "response_low_energy",
    "rows_of",
    "set_blur",
    "set_random_share",
    "set_share",
    "shrink",
    "spans",
    "steps_of",
    "trajectory",
    "write_table",
]
