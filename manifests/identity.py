"""What outlives every version: the namespace and the account its servers run as."""

from manifests.manifest import Manifest
from manifests.spec import ServingSpec

# A version of the standard, so that an upgrade of the cluster tightens nothing behind our back.
POD_SECURITY_VERSION = "v1.30"

_SHARED_LABELS = {"app.kubernetes.io/part-of": "slipway", "app.kubernetes.io/managed-by": "slipway"}


def namespace(serving: ServingSpec) -> Manifest:
    """Return the Namespace, in which only pods of the Pod Security Standard ``restricted`` are admitted."""
    pod_security = {
        f"pod-security.kubernetes.io/{mode}{suffix}": value
        for mode in ("enforce", "warn", "audit")
        for suffix, value in (("", "restricted"), ("-version", POD_SECURITY_VERSION))
    }
    return Manifest(
        api_version="v1",
        kind="Namespace",
        name=serving.namespace,
        namespace="",
        labels={**_SHARED_LABELS, **pod_security},
        content={},
    )


def service_account(serving: ServingSpec) -> Manifest:
    """Return the servers' ServiceAccount: no token is mounted, storage is granted by Workload Identity."""
    google = serving.google_service_account
    return Manifest(
        api_version="v1",
        kind="ServiceAccount",
        name=serving.service_account,
        namespace=serving.namespace,
        labels=_SHARED_LABELS,
        annotations={"iam.gke.io/gcp-service-account": google} if google else {},
        content={"automountServiceAccountToken": False},
    )
