"""Export: whatever a trainer left on disk becomes a SavedModel with explicit signatures."""

from components.export.step import ExportResult, export

__all__ = ["ExportResult", "export"]
