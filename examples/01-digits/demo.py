"""Release the digits model three times: a first version, a better one, and a bad one that the canary stops.

This is what ``make demo`` runs. It does nothing a person could not type: it starts the ``slipway`` command and checks
its exit codes. Everything it leaves lies in ``build/demo``. ``KEEP=1`` leaves the endpoint serving.
"""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
SPEC = HERE / "release.yaml"
PLACE = HERE.parents[1] / "build" / "demo"
STATE = PLACE / "state"
STORE = PLACE / "store"
REPORT = PLACE / "report.html"

SLIPWAY = Path(sys.executable).with_name("slipway")
PROMOTED = 0
ROLLED_BACK = 40
SHADES = " .:-=+*#%@"


class Surprise(Exception):
    """Something else happened than the demo is there to show."""


@dataclass(frozen=True)
class Version:
    """One release of the demo.

    Args:
        title: What it shows.
        changes: ``--set`` arguments, the difference from release.yaml.
        exit_code: How the command must end.
    """

    title: str
    changes: tuple[str, ...]
    exit_code: int


VERSIONS = (
    Version("1: a first release; there is no stable version to compare it with", (), PROMOTED),
    Version(
        "2: another training, released against version 1",
        ("source.train.args.seed=2", "source.train.args.epochs=18"),
        PROMOTED,
    ),
    Version(
        "3: trained on shuffled labels, so it has learned nothing.\n"
        "   Validation would refuse it for its accuracy. That floor is taken away here, to show that the canary\n"
        "   catches such a model alone",
        ("source.train.args.shuffle-labels=true", "validate.evaluate.metrics.accuracy.minimum=0"),
        ROLLED_BACK,
    ),
)


def heading(text: str) -> None:
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{bold}{text}{plain}\n", flush=True)


def slipway(*words: str) -> int:
    """Run the command, let it speak for itself, and return its exit code."""
    return subprocess.run([str(SLIPWAY), "--state", str(STATE), *words], check=False).returncode


def release(version: Version) -> None:
    heading(f"Version {version.title}")
    changes = [word for change in (f"store.uri={STORE}", *version.changes) for word in ("--set", change)]
    code = slipway("run", str(SPEC), *changes)
    if code != version.exit_code:
        raise Surprise(
            f"version {version.title.splitlines()[0]} should have ended with exit code {version.exit_code}, not {code}"
        )


def evidence() -> tuple[Path, str]:
    """Return the record of the newest promoted release, and the REST address it tells."""
    promoted: dict[int, tuple[Path, str]] = {}
    for path in STORE.glob("*/.releases/*/release.json"):
        record = json.loads(path.read_text())
        if record["outcome"] == "promoted":
            last = record["records"][-1]
            promoted[last["version"]] = (path, last["endpoint"]["rest"])
    if not promoted:
        raise Surprise(f"no release under {STORE} was promoted")
    return promoted[max(promoted)]


def ask(url: str, body: object = None) -> dict[str, list[object]]:
    """Ask the endpoint over REST; ``body`` is sent as JSON, none is a GET."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=10) as answer:  # noqa: S310 - our own server
        return dict(json.load(answer))


def show_an_answer(rest: str) -> None:
    """Ask for one digit the training has never seen, and show picture and answer."""
    with np.load(HERE / "holdout.npz") as held_out:
        image, label = held_out["image"][0], int(held_out["labels"][0])
    scores = np.asarray(ask(f"{rest}/v1/models/digits:predict", {"instances": [image.tolist()]})["predictions"][0])
    print("\n".join(drawn(image)))
    print(f"\n{rest}/v1/models/digits:predict says {scores.argmax()} ({scores.max():.1%}); it is a {label}")
    if scores.argmax() != label:
        raise Surprise("the endpoint gave a wrong answer to a digit both good versions know")


def drawn(image: NDArray[np.float32]) -> list[str]:
    """Return a picture of brightness within [0, 1] as lines of characters."""
    return ["   " + "".join(SHADES[round(float(pixel) * 9)] * 2 for pixel in row) for row in image]


def require_version(rest: str, version: str) -> None:
    states = ask(f"{rest}/v1/models/digits")["model_version_status"]
    serving = {state["version"] for state in states if isinstance(state, dict) and state["state"] == "AVAILABLE"}
    if serving != {version}:
        raise Surprise(f"version {version} should be served, not {', '.join(sorted(serving)) or 'none'}")


def demo() -> None:
    for version in VERSIONS:
        release(version)
    record, rest = evidence()

    heading("What is served after all that")
    require_version(rest, "2")
    print("Version 2: the bad one never reached a client.\n")
    show_an_answer(rest)

    if slipway("report", "latest", "-o", str(REPORT)) != 0:
        raise Surprise("the report could not be written")
    heading("Where everything is")
    print(f"record    {shown(record)}")
    print(f"report    {shown(REPORT)}  (the rolled-back release; open it in a browser)")
    until = "" if os.environ.get("KEEP") == "1" else "  (until this demo ends; KEEP=1 make demo leaves it serving)"
    print(f"endpoint  {rest}/v1/models/digits{until}")


def shown(path: Path) -> str:
    return os.path.relpath(path)


def start_afresh() -> None:
    if STATE.exists():
        slipway("down")
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)


def main() -> int:
    start_afresh()
    try:
        demo()
    except (Surprise, OSError) as surprise:
        print(f"\nThe demo failed: {surprise}\nWhat it left lies in {shown(PLACE)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if os.environ.get("KEEP") == "1":
            print(f"\nKEEP=1: still serving. Stop it with: {shown(SLIPWAY)} --state {shown(STATE)} down")
        else:
            slipway("down")
    return 0


if __name__ == "__main__":
    sys.exit(main())
