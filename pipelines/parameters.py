"""The parameters every step of an engine's pipeline is given, besides its artifacts."""

import json
from dataclasses import dataclass

from components.core.digest import Digest
from components.core.errors import Rejected
from components.core.release import Identity


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a compiled pipeline, which a run may override."""

    name: str
    does: str


SPEC = Parameter("spec", "The resolved release spec as JSON.")
IDENTITY = Parameter("identity", "Digests the release id is computed from, as JSON.")
BASE_DIR = Parameter("base_dir", "Folder that relative paths of the spec start from.")
TARGET = Parameter("target", "Where servers run: `local` is the pod or machine the steps run on.")
STATE = Parameter("state", "Folder for local servers, where the target is `local`.")
RUN_ID = Parameter("run_id", "Id of the run: what makes a release new whose source is not pinned.")

PARAMETERS = (SPEC, IDENTITY, BASE_DIR, TARGET, STATE, RUN_ID)


def identity_to_json(identity: Identity) -> str:
    """Return an identity as JSON."""
    return json.dumps(
        {"spec": identity.spec_digest, "inputs": dict(identity.inputs), "repeatable": identity.repeatable},
        sort_keys=True,
    )


def identity_from_json(text: str) -> Identity:
    """Return the identity that :func:`identity_to_json` wrote.

    Raises:
        Rejected: It is none.
    """
    try:
        data = json.loads(text)
        inputs = {str(name): Digest(value) for name, value in data["inputs"].items()}
        return Identity(Digest(data["spec"]), inputs, bool(data["repeatable"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Rejected(
            "--identity is not what `slipway compile` wrote", got=text[:200], reason="BAD_IDENTITY"
        ) from error
