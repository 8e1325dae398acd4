"""Filters: how low or high they are, measured exactly."""

from .bands import EQUAL_AREA, eigenfilters, energy_matrix, filters_low_energy, line, live_filters, spans
from .depth import GradientSpectrum, effective_first_layer, gradient_power, input_gradient_spectrum
from .figures import FIGURES, Color, Figure, LayerSpectrum, ModelSpectrum
from .measured import Reading
from .moments import PatchStatistics, PatchSums, image_batches, padded, patch_statistics, unfold
from .response import patch_covariances, response_low_energy
from .sensitivity import Sensitivity
from .spectrum import analyze
from .trajectory import SpectrumLogger, Trajectory, course_of, rows_of, steps_of, trajectory

__all__ = [
    "EQUAL_AREA",
    "FIGURES",
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
    "course_of",
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
    "response_low_energy",
    "rows_of",
    "spans",
    "steps_of",
    "trajectory",
    "unfold",
]
