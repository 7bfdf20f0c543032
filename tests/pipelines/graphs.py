"""The graph of a compiled pipeline: which node comes after which, and the artifacts that go in and out."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

Json = dict[str, Any]


@dataclass(frozen=True)
class Vertex:
    """A node as the engine's text shows it."""

    after: frozenset[str]
    inputs: frozenset[str]
    outputs: frozenset[str]
    caching: bool


def of_kubeflow(ir: str) -> dict[str, Vertex]:
    """Return the nodes of the pipeline, without its exit handler's own."""
    spec = next(yaml.safe_load_all(ir))
    (body,) = (each for each in spec["components"].values() if "dag" in each)
    return {name: _kubeflow(task, spec["components"]) for name, task in body["dag"]["tasks"].items()}


def _kubeflow(task: Json, components: Json) -> Vertex:
    outputs = components[task["componentRef"]["name"]].get("outputDefinitions", {}).get("artifacts", {})
    return Vertex(
        after=frozenset(task.get("dependentTasks", ())),
        inputs=frozenset(task.get("inputs", {}).get("artifacts", {})),
        outputs=frozenset(outputs),
        # Kubeflow caches a task whose options are missing.
        caching=bool(task.get("cachingOptions", {"enableCache": True}).get("enableCache", False)),
    )


def of_argo(text: str) -> dict[str, Vertex]:
    """Return the tasks of the entrypoint."""
    spec = next(yaml.safe_load_all(text))["spec"]
    templates = {each["name"]: each for each in spec["templates"]}
    return {task["name"]: _argo(task, templates) for task in templates[spec["entrypoint"]]["dag"]["tasks"]}


def _argo(task: Json, templates: Json) -> Vertex:
    template = templates[task["template"]]
    return Vertex(
        after=frozenset(re.findall(r"[\w-]+", task.get("depends", ""))),
        inputs=frozenset(each["name"] for each in task.get("arguments", {}).get("artifacts", ())),
        outputs=frozenset(each["name"] for each in template.get("outputs", {}).get("artifacts", ())),
        caching="memoize" in template,
    )


def in_line(graph: Mapping[str, Vertex]) -> list[str]:
    """Return the nodes of a chain in order; anything but a chain is an error."""
    before = {name: _ancestors(name, graph) for name in graph}
    order = sorted(graph, key=lambda name: len(before[name]))
    assert [len(before[name]) for name in order] == list(range(len(order))), f"not a chain: {before}"
    return order


def _ancestors(name: str, graph: Mapping[str, Vertex]) -> set[str]:
    return set().union(*({each} | _ancestors(each, graph) for each in graph[name].after))
