"""Training methods: one protocol, one table.

What perturbs filters (`set_share`, `modulate`) or the network's input (`SpectralNoise`) is part of the
network and combines with any method here.
"""

from collections.abc import Mapping
from types import MappingProxyType

from .gaussian import gaussian
from .protocol import Method, Step
from .standard import standard

METHODS: Mapping[str, Method] = MappingProxyType({"standard": standard, "gaussian": gaussian})
"""Every training method by name."""

__all__ = ["METHODS", "Method", "Step"]
