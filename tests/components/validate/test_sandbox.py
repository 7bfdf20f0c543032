"""The sandbox, against a child that tries to leave it."""

import os
import socket
import subprocess
import sys

import pytest

from components.core.process import ENTRY, Limits
from components.validate import sandbox

SECRETS = {
    "GOOGLE_APPLICATION_CREDENTIALS": "hidden-1",
    "AWS_SECRET_ACCESS_KEY": "hidden-2",
    "HF_TOKEN": "hidden-3",
    "CUDA_VISIBLE_DEVICES": "-1",
}

LOOK = """
import json, sys
from components.core.process import Limits
from components.validate import sandbox
found = sandbox.run("tests.components.validate.hostile", {"port": int(sys.argv[1])}, limits=Limits(deadline_s=60),
                    environment=__import__("os").environ)
print(json.dumps({"offline": found.offline, **found.reply}))
"""


@pytest.fixture(scope="module")
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture(scope="module")
def found(listener) -> dict[str, object]:
    """What a hostile child saw that was started by a process with secrets in its environment."""
    import json

    env = {**os.environ, **SECRETS, "PYTHONPATH": str(ENTRY.parent)}
    command = [sys.executable, "-c", LOOK, str(listener)]
    return json.loads(subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=90).stdout)


def test_a_child_in_the_sandbox_sees_no_secret(found):
    own = {"PATH", "LANG", "LC_CTYPE", "HOME", "TMPDIR", "TF_CPP_MIN_LOG_LEVEL"}
    assert set(found["environment"]) <= {*sandbox.KEPT, *own}
    assert "CUDA_VISIBLE_DEVICES" in found["environment"]
    assert "hidden" not in found["own"]
    assert found["home"] == []


def test_a_child_in_the_sandbox_cannot_connect_even_to_this_machine(listener, found):
    with socket.create_connection(("127.0.0.1", listener), timeout=2):
        pass  # it can be reached from here
    # A kernel that lets no process give up its network is allowed, but then the record says so.
    assert found["connected"] is not found["offline"]
    assert found["interfaces"] == ["lo"] or not found["offline"]


def test_a_child_of_its_own_user_namespace_cannot_read_its_parents_environment(found):
    own_namespace = found["uids"].split()[2] == "1"
    assert found["parent"] == "" or not own_namespace


def test_what_the_child_refuses_reaches_the_parent_as_it_is():
    from components.core.errors import Bug

    with pytest.raises(Bug, match="no_such_module"):
        sandbox.run("components.no_such_module", {}, limits=Limits(deadline_s=30))
