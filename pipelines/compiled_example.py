"""Write ``pipelines/compiled/``: what the compilers make of the first example, for people and reviews to read.

The images are placeholders, and so is the store. Run ``python -P slipway.py --module pipelines.compiled_example
[--check]``.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from components.core import specfile
from components.core.release import identify
from pipelines import argo, kubeflow
from pipelines.plan import Plan, plan

TARGET = Path(__file__).resolve().parent / "compiled"
SPEC = Path(__file__).resolve().parents[1] / "examples" / "01-digits" / "release.yaml"

SETS = (
    f"engine.model_image=example.invalid/slipway/model@sha256:{'1' * 64}",
    f"serving.tools_image=example.invalid/slipway/deploy@sha256:{'2' * 64}",
    f"serving.image=example.invalid/tensorflow/serving@sha256:{'3' * 64}",
    # Slipway's image holds no scikit-learn, from which this trainer takes its data.
    f"source.train.image=example.invalid/digits/trainer@sha256:{'4' * 64}",
    "store.uri=gs://example-bucket/models",
    "schedule={cron: 0 3 * * 1, timezone: Europe/Berlin}",
)


def example() -> Plan:
    """Return the plan of the first example with placeholders."""
    loaded = specfile.load(SPEC, sets=SETS)
    return plan(loaded.spec, identify(loaded.spec, loaded.base_dir))


def files() -> Mapping[str, str]:
    """Return the text of each file by its path below ``pipelines/compiled/``."""
    found = example()
    nodes = (*found.nodes, found.exit)
    return {
        "kubeflow.yaml": kubeflow.to_ir(found),
        "argo.yaml": argo.to_yaml(found),
        **{f"components/{node.name}.yaml": kubeflow.component(node) for node in nodes},
    }


def stale() -> list[str]:
    """Return the files that are not what the compilers make, those that are missing, and those that nothing makes."""
    wanted = files()
    there = {path.relative_to(TARGET).as_posix(): path.read_text() for path in TARGET.rglob("*.yaml")}
    return sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))


def main() -> int:
    """Write the files, or with ``--check`` return 1 where they differ."""
    if "--check" in sys.argv[1:]:
        old = stale()
        names = ", ".join(old)
        print(f"compiled: {f'{names} differ; run make generate' if old else 'up to date'}")
        return 1 if old else 0
    for path in TARGET.rglob("*.yaml"):
        path.unlink()
    for name, text in files().items():
        path = TARGET / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
