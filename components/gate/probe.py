"""The loading half of ``slipway scan``, in a limited child process without network. Imports tensorflow, late."""

from pathlib import Path

from components.core.process import Progress, answer
from components.core.spec import Limits
from components.gate.findings import ProbeReply, ProbeRequest
from components.validate.sandbox import give_up_network


def handle(data: dict[str, object], progress: Progress) -> object:
    """Answer one :class:`ProbeRequest` with a :class:`ProbeReply`."""
    request = ProbeRequest.model_validate(data)
    offline = give_up_network()
    progress("starting TensorFlow")
    from components.validate.probe import probe  # noqa: PLC0415 - tensorflow's threads come after the network is gone

    probes = []
    for tags in request.tag_sets:
        progress(f"loading {'{' + ', '.join(tags) + '}'}")
        servable, found, _ = probe(Path(request.model), frozenset(tags), Limits())
        servable.close()
        probes.append(found)
    return ProbeReply(probes=tuple(probes), offline=offline).model_dump(mode="json")


if __name__ == "__main__":
    answer(handle)
