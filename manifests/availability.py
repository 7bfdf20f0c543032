"""How many servers a node upgrade may take away at once."""

from manifests import naming
from manifests.manifest import Manifest
from manifests.serving import Revision
from manifests.spec import ModelVersion, ServingSpec


def disruption_budget(serving: ServingSpec, version: ModelVersion, of: Revision) -> Manifest:
    """Return the PodDisruptionBudget: one server at a time.

    ``maxUnavailable`` can always be satisfied, which ``minAvailable: 1`` of one waived replica cannot; and a server
    that is not ready protects nothing, so it may always go.
    """
    return Manifest(
        api_version="policy/v1",
        kind="PodDisruptionBudget",
        name=of.name,
        namespace=serving.namespace,
        labels=naming.object_labels(version),
        content={
            "spec": {
                "maxUnavailable": 1,
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": {"matchLabels": of.selector},
            }
        },
    )
