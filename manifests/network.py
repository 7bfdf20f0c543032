"""Whom a server's pod may talk to: callers on its two ports, and outwards only what the pull needs."""

from manifests import naming
from manifests.manifest import Json, Manifest
from manifests.pod import GRPC_PORT, REST_PORT
from manifests.serving import Revision
from manifests.spec import ModelVersion, ServingSpec

_NAMESPACE_NAME = "kubernetes.io/metadata.name"
_HTTPS = 443
_DNS = 53

# GKE: the metadata server hands out Workload Identity's tokens
# (cloud.google.com/kubernetes-engine/docs/how-to/network-policy).
_METADATA_SERVER = "169.254.169.254/32"
_METADATA_DAEMON = "169.254.169.252/32"
_METADATA_DAEMON_PORT = 988
_NODE_LOCAL_DNS = "169.254.20.10/32"

# Object storage has no addresses of its own that a policy could name: everything public, nothing of the cluster's.
_NOT_PUBLIC = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16")


def network_policy(serving: ServingSpec, version: ModelVersion, of: Revision) -> Manifest:
    """Return the NetworkPolicy of one revision's pods: everything it does not list is denied, both ways.

    One a revision and not one a model, so that removing a candidate can never open its stable neighbour.
    """
    return Manifest(
        api_version="networking.k8s.io/v1",
        kind="NetworkPolicy",
        name=of.name,
        namespace=serving.namespace,
        labels=naming.object_labels(version),
        content={
            "spec": {
                "podSelector": {"matchLabels": of.selector},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": _callers(serving), "ports": [_tcp(GRPC_PORT), _tcp(REST_PORT)]}],
                "egress": _pull_needs(),
            }
        },
    )


def _callers(serving: ServingSpec) -> list[Json]:
    own: Json = {"podSelector": {}}
    return [
        own,
        *({"namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: name}}} for name in serving.caller_namespaces),
    ]


def _pull_needs() -> list[Json]:
    return [
        {
            "to": [
                {"namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: "kube-system"}}},
                _address(_NODE_LOCAL_DNS),
                _address(_METADATA_SERVER),
            ],
            "ports": [{"protocol": "UDP", "port": _DNS}, _tcp(_DNS)],
        },
        {"to": [_address(_METADATA_SERVER)], "ports": [_tcp(80)]},
        {"to": [_address(_METADATA_DAEMON)], "ports": [_tcp(_METADATA_DAEMON_PORT)]},
        {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": _NOT_PUBLIC}}], "ports": [_tcp(_HTTPS)]},
    ]


def _address(cidr: str) -> Json:
    return {"ipBlock": {"cidr": cidr}}


def _tcp(port: int) -> Json:
    return {"protocol": "TCP", "port": port}
