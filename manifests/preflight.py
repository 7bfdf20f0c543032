"""What must be known before anything can be rendered for Kubernetes.

A spec that only ever runs on a laptop needs no images and no second replica, so the spec itself does not demand them;
rendering does, all at once.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from manifests.quantity import amount
from manifests.spec import ModelVersion, ServingSpec

CANDIDATE_SUFFIX = "-candidate"


@dataclass(frozen=True)
class Refusal:
    """One reason why nothing is rendered.

    Args:
        field: Path of the field in the release's spec, such as ``serving.image``.
        expected: What would have been right.
        got: What was found instead.
        fix: What to do about it.
    """

    field: str
    expected: str
    got: str
    fix: str

    def __str__(self) -> str:
        return f"{self.field}: expected {self.expected}, got {self.got}; {self.fix}"


class Unrenderable(ValueError):
    """These manifests would not be right, so there are none.

    Args:
        model: Model name.
        refusals: Every reason, at least one.
    """

    reason = "NOT_RENDERABLE"

    def __init__(self, model: str, refusals: tuple[Refusal, ...]) -> None:
        super().__init__("\n".join([f"no manifests for model {model}:", *(f"  {refusal}" for refusal in refusals)]))
        self.model = model
        self.refusals = refusals


@dataclass(frozen=True)
class Images:
    """The two images of a server's pod, both by digest."""

    server: str
    tools: str


def check(serving: ServingSpec, version: ModelVersion) -> Images:
    """Return the images of a spec that can be rendered.

    Raises:
        Unrenderable: An image is missing, one replica was asked for without a waiver, a quantity is nothing, the
            model's name cannot name its Services, or its store lies on somebody's own disk.
    """
    refusals = (*_images(serving), *_replicas(serving), *_quantities(serving), *_names(version), *_store(version))
    if refusals or serving.image is None or serving.tools_image is None:
        raise Unrenderable(version.model, refusals)
    return Images(server=serving.image, tools=serving.tools_image)


def _images(serving: ServingSpec) -> Iterator[Refusal]:
    for field, image, what in (
        ("serving.image", serving.image, "a TensorFlow Serving image"),
        ("serving.tools_image", serving.tools_image, "Slipway's deploy image"),
    ):
        if image is None:
            yield Refusal(field, f"{what} by digest", "nothing", f"set {field} to registry/name@sha256:...")


def _replicas(serving: ServingSpec) -> Iterator[Refusal]:
    if serving.replicas == 1 and not serving.single_replica_waiver.strip():
        yield Refusal(
            "serving.replicas",
            "2 or more, or a reason why one is enough",
            "1 without a reason",
            "raise it, or say in serving.single_replica_waiver why an outage at every node upgrade is fine",
        )


def _quantities(serving: ServingSpec) -> Iterator[Refusal]:
    for field, quantity in (
        ("serving.resources.cpu", serving.resources.cpu),
        ("serving.resources.memory", serving.resources.memory),
        ("serving.model_volume", serving.model_volume),
    ):
        if amount(quantity) <= 0:
            yield Refusal(
                field, "more than nothing", repr(quantity), "Kubernetes takes a limit of 0 for no limit: give one"
            )


def _names(version: ModelVersion) -> Iterator[Refusal]:
    if not version.model[0].isalpha():
        yield Refusal(
            "model", "a first letter", repr(version.model), "a Service's name begins with a letter: rename the model"
        )
    if version.model.endswith(CANDIDATE_SUFFIX):
        yield Refusal(
            "model",
            f"a name that does not end in {CANDIDATE_SUFFIX}",
            repr(version.model),
            "it would be the Service of another model's candidate: rename the model",
        )
    if len(str(version.version)) > _VERSION_DIGITS:
        yield Refusal(
            "version",
            f"at most {_VERSION_DIGITS} digits",
            str(version.version),
            "names of Kubernetes objects end at 63 characters: use the version number the store gave",
        )


# 40 characters of model, "-v", the version, "-" and 10 of the hash are 63.
_VERSION_DIGITS = 10


def _store(version: ModelVersion) -> Iterator[Refusal]:
    if not re.match(r"[a-z][a-z0-9+.-]*://", version.store_uri) or version.store_uri.startswith("file:"):
        yield Refusal(
            "store.uri",
            "a store that pods can reach, such as gs://bucket/models",
            repr(version.store_uri),
            "a path of this machine does not exist in a pod: publish to object storage",
        )
