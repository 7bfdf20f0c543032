"""The loading half of ``slipway scan``, in a limited child process without network. Imports tensorflow, late."""

import ctypes
import os
from pathlib import Path

from components.core.process import Progress, answer
from components.core.spec import Limits
from pipelines.scan_findings import ProbeReply, ProbeRequest

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000  # linux/sched.h


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


def give_up_network() -> bool:
    """Move this process into a network of its own, without interfaces; return whether the kernel allowed it (Linux).

    Must be called while there is one thread only: a user namespace is not for others (unshare(2)).
    """
    user, group = os.getuid(), os.getgid()
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_NEW_NETWORK) == 0:
            return True
        if libc.unshare(_NEW_USER | _NEW_NETWORK) != 0:
            return False
        # Without a map no file could be written any more: the files of an unknown user have no owner.
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    except (OSError, AttributeError):
        return False
    return True


if __name__ == "__main__":
    answer(handle)
