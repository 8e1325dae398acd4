"""Filters: how low or high they are, and how that is set and modulated."""

from .bands import EQUAL_AREA, eigenfilters, energy_matrix, filters_low_energy, line, spans

__all__ = [
    "EQUAL_AREA",
    "eigenfilters",
    "energy_matrix",
    "filters_low_energy",
    "line",
    "spans",
]
