"""Laws of a set of manifests: they hold for any spec that can be rendered."""

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.bundle import file_name, foundation, render, to_yaml
from manifests.naming import content_hash
from manifests.spec import Batching, ModelVersion, Resources, Rollout, ServingSpec
from tests.manifests.cases import CPU, GPU, VERSION
from tests.manifests.strategies import roles, serving_specs, versions

LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
SERVICE_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")

NEXT = VERSION.model_copy(update={"version": 4, "digest": "sha256:" + "d2" * 32})


def one(manifests, kind):
    (found,) = [manifest for manifest in manifests if manifest.kind == kind]
    return found


def spec_of(manifests, kind):
    return one(manifests, kind).body()["spec"]


def labels_of_pods(manifests):
    return spec_of(manifests, "Deployment")["template"]["metadata"]["labels"]


def selects(selector, labels):
    return selector.items() <= labels.items()


def key(manifest):
    return manifest.kind, manifest.namespace, manifest.name


@pytest.mark.slow
@given(serving_specs, versions, roles)
def test_any_spec_renders_the_same_text_each_time(spec, version, role):
    parsed = type(spec).model_validate_json(spec.model_dump_json())
    first, again = (to_yaml(foundation(s) + render(s, version, role)) for s in (spec, parsed))
    assert first == again


def test_an_objects_body_is_the_callers_own_to_change():
    first, second = (one(render(CPU, VERSION), "Deployment") for _ in range(2))
    first.body()["spec"]["template"]["spec"]["containers"][0]["securityContext"].clear()
    assert first.body() == second.body() == one(render(CPU, VERSION), "Deployment").body()


@given(serving_specs, versions, roles)
def test_names_and_labels_are_ones_kubernetes_takes(spec, version, role):
    manifests = foundation(spec) + render(spec, version, role)
    labels = [m.labels for m in manifests] + [labels_of_pods(manifests)]
    labels.append(spec_of(manifests, "Deployment")["template"]["spec"].get("nodeSelector", {}))
    assert all(DNS_LABEL.fullmatch(m.name) for m in manifests)
    assert SERVICE_NAME.fullmatch(one(manifests, "Service").name)
    assert all(LABEL_VALUE.fullmatch(value) for found in labels for value in found.values())
    assert len({key(m) for m in manifests}) == len({file_name(m) for m in manifests}) == len(manifests)


@given(serving_specs, versions, roles)
def test_every_selector_selects_the_pods_of_the_deployment(spec, version, role):
    manifests = render(spec, version, role)
    pods = labels_of_pods(manifests)
    deployment = spec_of(manifests, "Deployment")
    assert selects(deployment["selector"]["matchLabels"], pods)
    assert selects(spec_of(manifests, "Service")["selector"], pods)
    assert selects(spec_of(manifests, "NetworkPolicy")["podSelector"]["matchLabels"], pods)
    assert selects(spec_of(manifests, "PodDisruptionBudget")["selector"]["matchLabels"], pods)
    for spread in deployment["template"]["spec"]["topologySpreadConstraints"]:
        assert selects(spread["labelSelector"]["matchLabels"], pods)


@given(serving_specs, versions, roles)
def test_everything_a_pod_refers_to_exists(spec, version, role):
    manifests = foundation(spec) + render(spec, version, role)
    pod = spec_of(manifests, "Deployment")["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for container in pod["initContainers"] + pod["containers"]:
        assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
    assert volumes["config"]["configMap"]["name"] == one(manifests, "ConfigMap").name
    assert pod["serviceAccountName"] == one(manifests, "ServiceAccount").name
    data = one(manifests, "ConfigMap").body()["data"]
    files = [a.split("=/etc/slipway/")[1] for a in pod["containers"][0]["args"] if "=/etc/slipway/" in a]
    assert sorted(files) == sorted(data)

    ports = {port["name"]: port["containerPort"] for port in pod["containers"][0]["ports"]}
    assert {port["targetPort"] for port in spec_of(manifests, "Service")["ports"]} == set(ports)
    server = pod["containers"][0]
    assert {server[p]["httpGet"]["port"] for p in ("startupProbe", "readinessProbe")} == {"rest"}
    assert server["livenessProbe"]["tcpSocket"]["port"] == "grpc"
    assert {p["port"] for p in spec_of(manifests, "NetworkPolicy")["ingress"][0]["ports"]} == set(ports.values())


@given(serving_specs, versions, roles)
def test_all_namespaced_objects_are_in_the_one_namespace(spec, version, role):
    manifests = foundation(spec) + render(spec, version, role)
    assert {m.namespace for m in manifests if m.kind != "Namespace"} == {spec.namespace}
    assert one(manifests, "Namespace").name == spec.namespace


@given(serving_specs, versions, roles)
def test_the_times_of_a_pod_fit_into_each_other(spec, version, role):
    deployment = spec_of(render(spec, version, role), "Deployment")
    pod = deployment["template"]["spec"]
    server = pod["containers"][0]
    startup = server["startupProbe"]
    longest_load = startup["periodSeconds"] * startup["failureThreshold"]
    sleep = server.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert longest_load >= spec.rollout.load_deadline_s
    assert sleep == spec.rollout.drain_s
    assert pod["terminationGracePeriodSeconds"] > sleep + spec.rollout.longest_request_s
    assert deployment["progressDeadlineSeconds"] > deployment["minReadySeconds"] + longest_load


@given(serving_specs, versions)
def test_a_role_changes_the_service_and_nothing_else(spec, version):
    candidate, stable = render(spec, version, "candidate"), render(spec, version, "stable")
    assert [m for m in candidate if m.kind != "Service"] == [m for m in stable if m.kind != "Service"]
    assert one(stable, "Service").name == version.model
    assert one(candidate, "Service").name == f"{version.model}-candidate"
    assert spec_of(candidate, "Service") == spec_of(stable, "Service")


def test_a_version_nobody_promoted_gets_no_traffic_by_plain_apply():
    applied = {key(m): m for m in render(CPU, VERSION, "stable")}
    applied |= {key(m): m for m in render(CPU, NEXT)}  # whoever names no role gets the harmless one
    callers = applied["Service", "models", "ranker"].body()["spec"]["selector"]
    pods = {m.body()["spec"]["template"]["metadata"]["labels"]["slipway.dev/version"]: m for m in applied.values()
            if m.kind == "Deployment"}  # fmt: skip
    assert set(pods) == {"3", "4"}
    reached = {v for v, m in pods.items() if selects(callers, m.body()["spec"]["template"]["metadata"]["labels"])}
    assert reached == {"3"}


@given(serving_specs, versions)
def test_a_candidates_set_holds_nothing_of_stables(spec, version):
    following = version.model_copy(update={"version": version.version % 9_999_999_999 + 1})
    stable, candidate = render(spec, version, "stable"), render(spec, following, "candidate")
    assert not {key(m) for m in stable} & {key(m) for m in candidate}
    for kind in ("Deployment", "NetworkPolicy", "PodDisruptionBudget", "ConfigMap"):
        assert one(stable, kind).name != one(candidate, kind).name
    assert not selects(spec_of(stable, "Service")["selector"], labels_of_pods(candidate))
    assert not selects(spec_of(candidate, "Service")["selector"], labels_of_pods(stable))


@pytest.mark.slow
@given(serving_specs, serving_specs, versions, st.sets(st.sampled_from(sorted(ServingSpec.model_fields))))
def test_a_name_stands_for_one_content(spec, other, version, changed):
    changes = {field: getattr(other, field) for field in changed}
    before, after = render(spec, version), render(spec.model_copy(update=changes), version)
    for kind, runs in (("ConfigMap", data_of), ("Deployment", template_of)):
        assert (one(before, kind).name == one(after, kind).name) == (runs(before) == runs(after))


def data_of(manifests):
    return one(manifests, "ConfigMap").body()["data"]


def template_of(manifests):
    return spec_of(manifests, "Deployment")["template"]


OTHER = {
    "image": {"image": "registry.example/other@sha256:" + "5f" * 32},
    "tools": {"tools_image": "registry.example/other@sha256:" + "5f" * 32},
    "cpu": {"resources": Resources(cpu="2")},
    "batching": {"batching": Batching()},
    "drain": {"rollout": Rollout(drain_s=20)},
    "volume": {"model_volume": "11Gi"},
    "account": {"service_account": "other"},
    "gpu": {"gpu": GPU.gpu},
}


def test_the_same_version_served_otherwise_is_another_revision():
    specs = [CPU, *(CPU.model_copy(update=update) for update in OTHER.values())]
    sets = [render(spec, VERSION) for spec in specs]
    assert len({one(manifests, "Deployment").name for manifests in sets}) == len(specs)
    for left, right in product(sets, sets):
        reached = selects(spec_of(left, "Service")["selector"], labels_of_pods(right))
        assert reached == (left is right)


def name_of_config(spec):
    return one(render(spec, VERSION), "ConfigMap").name


def test_the_configs_name_changes_with_its_content_only():
    name = name_of_config
    batched = CPU.model_copy(update={"batching": Batching()})
    assert {name(CPU.model_copy(update=OTHER[field])) for field in OTHER if field != "batching"} == {name(CPU)}
    assert name(batched) != name(CPU)
    assert name(batched) != name(CPU.model_copy(update={"batching": Batching(num_batch_threads=3)}))


def test_an_address_written_otherwise_is_another_revision_too():
    # The pull drops the slash, but the template's annotation shows it: one name must not stand for two templates.
    slashed = VERSION.model_copy(update={"store_uri": VERSION.store_uri + "/"})
    before, after = render(CPU, VERSION), render(CPU, slashed)
    assert template_of(before) != template_of(after)
    assert one(before, "Deployment").name != one(after, "Deployment").name


def test_a_hash_depends_on_content_and_not_on_its_order():
    assert content_hash({"a": 1, "b": [2]}) == content_hash({"b": [2], "a": 1}) != content_hash({"a": 1, "b": [3]})


def test_other_bytes_under_the_same_number_are_another_revision():
    other = VERSION.model_copy(update={"digest": NEXT.digest})
    assert one(render(CPU, VERSION), "Deployment").name != one(render(CPU, other), "Deployment").name


def test_more_replicas_and_other_callers_touch_no_pod():
    wider = CPU.model_copy(update={"replicas": 7, "caller_namespaces": ("gateway",)})
    before, after = (spec_of(render(spec, VERSION), "Deployment") for spec in (CPU, wider))
    assert (before["template"], after["replicas"]) == (after["template"], 7)


def test_the_longest_names_still_fit():
    version = ModelVersion(model="m" * 40, version=9_999_999_999, digest=VERSION.digest, store_uri="gs://bucket/models")
    assert max(len(m.name) for m in render(CPU, version)) == 63


def test_file_names_sort_in_the_order_of_applying():
    names = [file_name(m) for m in foundation(CPU) + render(CPU, VERSION)]
    assert names == sorted(names)
    assert names[0] == "00-namespace-models.yaml"
    assert names[-1] == "60-service-ranker-candidate.yaml"
