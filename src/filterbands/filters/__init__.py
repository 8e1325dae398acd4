"""Filters: how low or high they are, measured exactly."""

from .analyzed import Analyzed, course_of_all
from .bands import EQUAL_AREA, eigenfilters, energy_matrix, filters_low_energy, line, live_filters, spans
from .depth import GradientSpectrum, effective_first_layer, gradient_power, input_gradient_spectrum
from .figures import FIGURES, Color, Figure, LayerSpectrum, ModelSpectrum
from .integrals import constant
from .measured import Reading
from .moments import PatchStatistics, PatchSums, image_batches, padded, patch_statistics, unfold
from .response import patch_covariances, response_low_energy
from .sensitivity import Sensitivity, rank_correlations
from .spectrum import analyze
from .trajectory import SpectrumLogger, Trajectory, course_of, steps_of_training, trajectory

__all__ = [
    "EQUAL_AREA",
    "FIGURES",
    "Analyzed",
    "Color",
    "Figure",
    "GradientSpectrum",
    "LayerSpectrum",
    "ModelSpectrum",
    "PatchStatistics",
    "PatchSums",
    "Reading",
    "Sensitivity",
    "SpectrumLogger",
    "Trajectory",
    "analyze",
    "constant",
    "course_of",
    "course_of_all",
    "effective_first_layer",
    "eigenfilters",
    "energy_matrix",
    "filters_low_energy",
    "gradient_power",
    "image_batches",
    "input_gradient_spectrum",
    "line",
    "live_filters",
    "padded",
    "patch_covariances",
    "patch_statistics",
    "rank_correlations",
    "response_low_energy",
    "spans",
    "steps_of_training",
    "trajectory",
    "unfold",
]
