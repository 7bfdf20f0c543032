"""One Kubernetes object as a value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None
Object: TypeAlias = Mapping[str, Json]


@dataclass(frozen=True)
class Manifest:
    """A Kubernetes object as it is applied.

    Args:
        api_version: Group and version, such as ``apps/v1``.
        kind: Kind, such as ``Deployment``.
        name: Name of at most 63 characters.
        namespace: Namespace, or empty for an object of the whole cluster.
        content: Everything but type and metadata: ``spec``, ``data`` and the like.
        labels: Labels of the object itself.
        annotations: Annotations of the object itself.
    """

    api_version: str
    kind: str
    name: str
    namespace: str
    content: Object
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Json]:
        """Return the whole object, with its fields in the order people write them: a copy, of plain dicts and lists."""
        metadata: dict[str, Json] = {"name": self.name}
        if self.namespace:
            metadata["namespace"] = self.namespace
        if self.labels:
            metadata["labels"] = self.labels
        if self.annotations:
            metadata["annotations"] = self.annotations
        whole = {"apiVersion": self.api_version, "kind": self.kind, "metadata": metadata, **self.content}
        return {name: _plain(value) for name, value in whole.items()}


def _plain(value: Json) -> Json:
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(inner) for inner in value]
    return value
