"""Manifests as YAML text that every parser reads alike, the same byte for byte each time.

Kubernetes reads YAML with Go's parser, tools with others, and they disagree about bare words: ``1e5`` is a number to Go
and text to PyYAML, ``y`` is true to some. A label value such as the hash ``12e4567890`` must stay text for all of them,
so whatever any of them could take for something else is quoted.
"""

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

import yaml

from manifests.manifest import Manifest

_STRING_TAG = "tag:yaml.org,2002:str"
_AMBIGUOUS = re.compile(
    r"|~|null|y|n|yes|no|on|off|true|false|[-+]?\.?[0-9][0-9a-fxobtz_.:+\- ]*|[-+]?\.?(inf|infinity|nan)", re.IGNORECASE
)
_NEVER_FOLD = 1_000_000


def _style(text: str) -> str | None:
    if "\n" in text:
        return "|"  # a wish: where a block could not hold the text exactly, PyYAML writes it in double quotes
    return "'" if _AMBIGUOUS.fullmatch(text) else None


@cache
def dumper(base: type[Any]) -> type[Any]:
    """Return the YAML dumper of this project, on top of PyYAML's ``CSafeDumper`` or its pure-Python twin."""

    class ManifestDumper(base):  # type: ignore[misc]  # either base has the interface of yaml.SafeDumper
        def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - an anchor would save bytes and cost readers
            return True

    def write_text(target: Any, text: str) -> yaml.ScalarNode:  # noqa: ANN401 - a dumper of either base
        node: yaml.ScalarNode = target.represent_scalar(_STRING_TAG, text, style=_style(text))
        return node

    ManifestDumper.add_representer(str, write_text)
    return ManifestDumper


def to_yaml(manifests: Iterable[Manifest]) -> str:
    """Return the manifests as one multi-document YAML text: block style, ``---`` before each, a newline at the end."""
    return yaml.dump_all(
        [manifest.body() for manifest in manifests],
        Dumper=dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)),
        explicit_start=True,
        sort_keys=False,
        default_flow_style=False,
        width=_NEVER_FOLD,
    )
