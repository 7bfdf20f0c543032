"""Which versions a folder holds, which of them a policy wants, and what to load and unload next. Pure.

Follows tensorflow/serving: sources/storage_path/file_system_storage_path_source.cc and
core/availability_preserving_policy.cc.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from components.serving.configs import Policy

_NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?)([0-9]+)[ \t\n\v\f\r]*\Z")


def version_number(name: str) -> int | None:
    """Return the version a folder's name means, as ``absl::SimpleAtoi<int64>`` reads it, or None if it is no version.

    ``1``, ``00123``, ``+5``, ``-5`` and `` 7 `` are versions; ``v9``, ``9.tmp``, ``0x9`` and more than int64 are not.
    """
    found = _NUMBER.match(name)
    if found is None:
        return None
    number = int(found[1] + found[2]) if len(found[2]) < 100 else None
    return number if number is not None and -(2**63) <= number < 2**63 else None


def aspired(policy: Policy, children: Iterable[str]) -> dict[int, str]:
    """Return the versions a policy wants among a folder's children: folder name by version.

    Two names of one number: the lexically last wins.
    """
    found: dict[int, str] = {}
    for child in sorted(children):
        number = version_number(child)
        if number is not None:
            found[number] = child
    if policy.kind == "specific":
        wanted = [number for number in sorted(found) if number in policy.versions]
    elif policy.kind == "all":
        wanted = sorted(found)
    else:
        wanted = sorted(found)[-policy.count :]
    return {number: found[number] for number in wanted}


@dataclass(frozen=True, slots=True)
class Actions:
    """What to do now with the versions of one model, newest first."""

    load: tuple[int, ...]
    unload: tuple[int, ...]


def next_actions(wanted: Collection[int], states: Mapping[int, str]) -> Actions:
    """Decide as AvailabilityPreservingPolicy does: the old goes only once a wanted one serves, or none is wanted.

    Args:
        wanted: Versions that are to be served.
        states: State of each known version, by :class:`~components.serving.requests.VersionStatus`'s names.
    """
    load = [number for number in wanted if states.get(number) == "START"]
    stale = [number for number, state in states.items() if state == "AVAILABLE" and number not in wanted]
    served = any(states.get(number) == "AVAILABLE" for number in wanted)
    unload = stale if served or not wanted else []
    return Actions(tuple(sorted(load, reverse=True)), tuple(sorted(unload, reverse=True)))
