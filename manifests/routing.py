"""Roles: which revision the callers reach, and which one only the canary does.

A role is a Service's selector and nothing else. Each role has its own Service, so that making a version the candidate
cannot move a single request of stable's, and promoting it moves them all at once without starting a pod.
"""

from typing import Literal, TypeAlias

from manifests import naming
from manifests.manifest import Manifest
from manifests.pod import GRPC_PORT, REST_PORT
from manifests.preflight import CANDIDATE_SUFFIX
from manifests.serving import Revision
from manifests.spec import ModelVersion, ServingSpec

Role: TypeAlias = Literal["candidate", "stable"]


def service_name(model: str, role: Role) -> str:
    """Return the name of a role's Service: the model's own for stable, ``MODEL-candidate`` for the candidate."""
    return model if role == "stable" else f"{model}{CANDIDATE_SUFFIX}"


def service(serving: ServingSpec, version: ModelVersion, of: Revision, role: Role) -> Manifest:
    """Return the Service of a role, which selects exactly one revision's pods."""
    return Manifest(
        api_version="v1",
        kind="Service",
        name=service_name(version.model, role),
        namespace=serving.namespace,
        labels={**naming.object_labels(version), naming.ROLE_LABEL: role},
        annotations=naming.provenance(version),
        content={
            "spec": {
                "type": "ClusterIP",
                "selector": of.selector,
                "ports": [
                    {
                        "name": "grpc",
                        # HTTP/2 without TLS; a gateway would speak HTTP/1.1 to it otherwise.
                        "appProtocol": "kubernetes.io/h2c",
                        "protocol": "TCP",
                        "port": GRPC_PORT,
                        "targetPort": "grpc",
                    },
                    {"name": "rest", "appProtocol": "http", "protocol": "TCP", "port": REST_PORT, "targetPort": "rest"},
                ],
            }
        },
    )
