"""Compile the first example as a user does, for tests of both engines."""

import json
import subprocess
import sys
from pathlib import Path

from pipelines.cli import main
from tests.pipelines.images import ROOT, Image, steps_image, users_image

EXAMPLE = ROOT / "examples" / "01-digits"
MODEL, DEPLOY, SERVING, USERS = (f"example.invalid/{name}@sha256:{name[0] * 64}" for name in "abcd")
IMAGES = (f"engine.model_image={MODEL}", f"serving.tools_image={DEPLOY}", f"serving.image={SERVING}")

NO_MODEL = """\
apiVersion: slipway.dev/v1
model: digits
source: {fetch: {uri: ./notes.txt}}
store: {uri: ./store}
"""
"""A release of a text file, which the step after `source` refuses."""


def compiled(engine: str, folder: Path, *sets: str, spec: Path = EXAMPLE / "release.yaml") -> str:
    """Return what ``slipway compile`` writes."""
    output = folder / f"{engine}.yaml"
    words = [word for each in (*IMAGES, *sets) for word in ("--set", each)]
    assert main(["compile", str(spec), "--engine", engine, "-o", str(output), *words]) == 0
    return output.read_text()


def digits(engine: str, folder: Path, *, image: bool) -> str:
    """Return the first example, compiled for one run here: trained in an image of its own, or within `source`.

    Slipway's image holds no scikit-learn, which this trainer imports, so without an image of its own the command names
    this interpreter, as it would name one that is in the image.
    """
    trainer = f"source.train.image={USERS}"
    if not image:
        words = [sys.executable, "{inputs}/train.py", "--output", "{output}"]
        trainer = f"source.train.command={json.dumps(words)}"
    return compiled(engine, folder, trainer, f"store.uri={folder / 'store'}")


def images(folder: Path) -> dict[str, Image]:
    """Return what stands for the images of :func:`digits`."""
    return {MODEL: steps_image(), DEPLOY: steps_image(), USERS: users_image(folder / "image")}


def overrides(folder: Path) -> dict[str, str]:
    """Return the parameters of one run here."""
    return {"base_dir": str(EXAMPLE), "target": "local", "state": str(folder / "state")}


def stop_servers(folder: Path) -> None:
    """Stop what the release serves."""
    slipway = steps_image().path[0] / "slipway"
    subprocess.run([slipway, "--state", folder / "state", "down"], check=True, timeout=120)


def outcome(folder: Path) -> str:
    """Return how the one release in the store ended, by its record."""
    (record,) = (folder / "store" / "digits" / ".releases").glob("*/release.json")
    return str(json.loads(record.read_text())["outcome"])
