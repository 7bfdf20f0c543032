"""Moved to ``components.core.optimization``, because records embed it."""

from components.core.optimization import OptimizeReport, OutputParity, PassReport, Timing

__all__ = ["OptimizeReport", "OutputParity", "PassReport", "Timing"]
