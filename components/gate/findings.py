"""What ``slipway scan`` finds, and what its child processes are asked and answer."""

from enum import StrEnum

from pydantic import Field

from components.core.errors import Rejected
from components.core.validation import Probe, Scan
from manifests.spec import Frozen


class Layer(StrEnum):
    """The layers of the gate, from the outside in; a model that one refuses does not reach the next."""

    ARCHIVE = "L0 archive"
    FILES = "L1 files"
    GRAPH = "L2-L3 graph"
    LOAD = "L4 sandboxed run"


class LayerFinding(Frozen):
    """One thing that is wrong, or worth knowing."""

    layer: Layer
    reason: str = Field(description="Stable code, such as `OP_FILE_READ`.")
    where: str
    detail: str = ""


class StaticRequest(Frozen):
    """What the reading child is asked."""

    path: str
    folder: str = Field(description="An empty directory for what is unpacked.")
    max_bytes: int = Field(description="Bytes an archive may unpack to.", ge=1)


class StaticReply(Frozen):
    """What the reading child found. ``format`` and ``model`` are empty if it did not get so far."""

    format: str = ""
    model: str = Field("", description="Where the model is now: below `folder` if it came in an archive.")
    findings: tuple[LayerFinding, ...] = ()
    notes: tuple[LayerFinding, ...] = ()
    scan: Scan | None = None


class ProbeRequest(Frozen):
    """What the loading child is asked."""

    model: str
    tag_sets: tuple[tuple[str, ...], ...]


class ProbeReply(Frozen):
    """What the loading child measured, one a tag set."""

    probes: tuple[Probe, ...]
    offline: bool = Field(description="Whether the kernel let it give up the network.")


def finding_of(layer: Layer, error: Rejected) -> LayerFinding:
    """Return a refusal as a finding."""
    return LayerFinding(layer=layer, reason=error.reason, where=error.what, detail=error.got)
