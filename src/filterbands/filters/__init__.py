"""Filters: how low or high they are, and how that is set and modulated."""

from .bands import EQUAL_AREA, eigenfilters, energy_matrix, filters_low_energy, line, spans
from .spectrum import LayerSpectrum, ModelSpectrum, analyze

__all__ = [
    "EQUAL_AREA",
    "LayerSpectrum",
    "ModelSpectrum",
    "analyze",
    "eigenfilters",
    "energy_matrix",
    "filters_low_energy",
    "line",
    "spans",
]
