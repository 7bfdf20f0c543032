"""The Deployment of one revision: immutable, named by a digest of what it runs."""

from dataclasses import dataclass

from manifests import naming
from manifests.manifest import Json, Manifest
from manifests.pod import PROBE_PERIOD_S, pod
from manifests.preflight import Images
from manifests.spec import ModelVersion, Rollout, ServingSpec

# Fetching the largest model a pod's volume may hold, before the server's own deadline begins.
_PULL_DEADLINE_S = 900


@dataclass(frozen=True)
class Revision:
    """One version under one configuration: what a Deployment runs, and what selects its pods.

    Args:
        name: Name of the Deployment and of the objects beside it.
        selector: Labels of its pods, and of no others.
        template: Its pod template, labels and all.
    """

    name: str
    selector: dict[str, str]
    template: dict[str, Json]


def revision(serving: ServingSpec, version: ModelVersion, images: Images, config_map: str) -> Revision:
    """Return the revision of a version: its name is a digest of its whole pod template.

    Whole, because the same name with another template would replace running pods: no release of Slipway may do that
    to a version somebody proved.
    """
    spec = pod(serving, version, images, config_map)
    digest = naming.content_hash(_template(version, spec, selector={}))
    selector = naming.selector(version, digest)
    return Revision(naming.versioned_name(version, digest), selector, _template(version, spec, selector))


def _template(version: ModelVersion, spec: dict[str, Json], selector: dict[str, str]) -> dict[str, Json]:
    return {
        "metadata": {
            "labels": {**naming.object_labels(version), **selector},
            "annotations": {**naming.provenance(version), **_EVICTABLE},
        },
        "spec": {**spec, "topologySpreadConstraints": _spread(selector)},
    }


def deployment(serving: ServingSpec, version: ModelVersion, of: Revision) -> Manifest:
    """Return the Deployment. It knows no role: promoting or rolling back never touches a pod."""
    waiver = {"slipway.dev/single-replica-waiver": serving.single_replica_waiver} if serving.replicas == 1 else {}
    return Manifest(
        api_version="apps/v1",
        kind="Deployment",
        name=of.name,
        namespace=serving.namespace,
        labels={**naming.object_labels(version), **of.selector},
        annotations={**naming.provenance(version), **waiver},
        content={
            "spec": {
                "replicas": serving.replicas,
                "revisionHistoryLimit": 2,
                "minReadySeconds": PROBE_PERIOD_S,
                "progressDeadlineSeconds": _PULL_DEADLINE_S + serving.rollout.load_deadline_s,
                "strategy": _strategy(serving.rollout),
                "selector": {"matchLabels": of.selector},
                "template": of.template,
            }
        },
    )


# Every volume is filled anew at start; without this, the autoscaler never removes a node with such a pod.
_EVICTABLE = {"cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes": "models,tmp,cuda-cache"}


def _strategy(rollout: Rollout) -> dict[str, Json]:
    # Where there is no room for one more, a surge waits for ever; the spec allowed the outage by name.
    surge, unavailable = (0, 1) if rollout.strategy == "drain-first" else (1, 0)
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}


def _spread(selector: dict[str, str]) -> list[Json]:
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selector},
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
