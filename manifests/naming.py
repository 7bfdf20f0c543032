"""Names and labels: how objects of one version find each other and nothing else."""

import hashlib
import json

from manifests.manifest import Json
from manifests.spec import ModelVersion

MODEL_LABEL = "slipway.dev/model"
VERSION_LABEL = "slipway.dev/version"
REVISION_LABEL = "slipway.dev/revision"
ROLE_LABEL = "slipway.dev/role"

_HASH_CHARACTERS = 10


def content_hash(content: Json) -> str:
    """Return the first ten hexadecimal digits of the SHA-256 of the content's canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_CHARACTERS]


def versioned_name(version: ModelVersion, revision: str) -> str:
    """Return ``MODEL-vN-HASH``, at most 63 characters long once ``preflight.check`` has passed."""
    return f"{version.model}-v{version.version}-{revision}"


def selector(version: ModelVersion, revision: str) -> dict[str, str]:
    """Return the labels that select the pods of one revision, and of no other that serves the same version.

    The version alone would not do: the same version under other flags or another image is another thing to prove.
    """
    return {MODEL_LABEL: version.model, VERSION_LABEL: str(version.version), REVISION_LABEL: revision}


def object_labels(version: ModelVersion) -> dict[str, str]:
    """Return the labels of every object that belongs to a version (Kubernetes' recommended ones, and ours)."""
    return {
        "app.kubernetes.io/name": "tensorflow-serving",
        "app.kubernetes.io/instance": version.model,
        "app.kubernetes.io/version": str(version.version),
        "app.kubernetes.io/component": "model-server",
        "app.kubernetes.io/part-of": "slipway",
        "app.kubernetes.io/managed-by": "slipway",
        MODEL_LABEL: version.model,
        VERSION_LABEL: str(version.version),
    }


def provenance(version: ModelVersion) -> dict[str, str]:
    """Return the annotations that say which bytes are served, and where they lie."""
    return {"slipway.dev/digest": version.digest, "slipway.dev/store": version.store_uri}
