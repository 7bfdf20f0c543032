"""Exports a Keras file for ``slipway scan``, in a limited child process without network. Imports tensorflow, late."""

from components.core.process import Progress, answer
from pipelines.scan_probe import give_up_network


def handle(data: dict[str, object], progress: Progress) -> object:
    """Answer one ``ExportRequest``, as the export step's own child process does."""
    give_up_network()
    from components.export.child import handle as export  # noqa: PLC0415 - see scan_probe

    return export(data, progress)


if __name__ == "__main__":
    answer(handle)
