"""Exports a Keras file for ``slipway scan``, in a limited child process without network. Imports tensorflow, late."""

from components.core.process import Progress, answer
from components.validate.sandbox import give_up_network


def handle(data: dict[str, object], progress: Progress) -> object:
    """Answer one ``ExportRequest``, as the export step's own child process does."""
    give_up_network()
    from components.export.child import handle as export  # noqa: PLC0415 - tensorflow comes after the network is gone

    return export(data, progress)


if __name__ == "__main__":
    answer(handle)
