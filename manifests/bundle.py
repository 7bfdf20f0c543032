"""The whole set of objects for one version in one role.

What plain ``kubectl apply`` of a set does:

- ``render(..., role="candidate")`` makes the version's own objects and points the Service ``MODEL-candidate`` at them.
  The Service ``MODEL``, which callers use, is not in the set, so a version nobody promoted gets none of their requests.
- ``render(..., role="stable")`` makes the same objects, byte for byte, and points ``MODEL`` at them.

So promotion is one changed selector, and no pod starts or ends for it. No set holds anything another version's set
holds, X
"""

from manifests import availability, config, identity, network, preflight, routing, serving
from manifests.document import to_yaml
from manifests.manifest import Manifest
from manifests.preflight import Unrenderable
from manifests.routing import Role
from manifests.spec import ModelVersion, ServingSpec

__all__ = ["Manifest", "Role", "Unrenderable", "file_name", "foundation", "render", "to_yaml"]

# What others refer to comes first; also the order in which `kubectl apply -f DIR` reads files.
_ORDER = (
    "Namespace",
    "ServiceAccount",
    "NetworkPolicy",
    "ConfigMap",
    "PodDisruptionBudget",
    "Deployment",
    "Service",
)


def foundation(spec: ServingSpec) -> tuple[Manifest, ...]:
    """Return what exists once for all versions of a namespace: the Namespace and the servers' ServiceAccount."""
    return (identity.namespace(spec), identity.service_account(spec))


def render(spec: ServingSpec, version: ModelVersion, role: Role = "candidate") -> tuple[Manifest, ...]:
    """Return the objects that serve a version in a role, in the order they should be applied.

    Args:
        spec: How versions are served.
        version: The version: its number, digest and store.
        role: ``candidate`` (no caller reaches it) or ``stable`` (all do). Only the Service depends on it.

    Raises:
        Unrenderable: The spec is enough for a laptop, but not for Kubernetes; all reasons are told.
    """
    images = preflight.check(spec, version)
    config_map = config.config_map(spec, version)
    revision = serving.revision(spec, version, images, config_map.name)
    return (
        network.network_policy(spec, version, revision),
        config_map,
        availability.disruption_budget(spec, version, revision),
        serving.deployment(spec, version, revision),
        routing.service(spec, version, revision, role),
    )


def file_name(manifest: Manifest) -> str:
    """Return a file name that is unique in a set and sorts in the order of applying: ``30-deployment-NAME.yaml``."""
    return f"{10 * _ORDER.index(manifest.kind):02d}-{manifest.kind.lower()}-{manifest.name}.yaml"
