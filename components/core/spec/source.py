"""The section ``source``: where a model comes from."""

import re
from typing import Annotated

from pydantic import Field, StringConstraints, field_validator, model_validator

from manifests.spec import Frozen, ModelName, Resources

SHA256 = r"^(sha256:)?[0-9a-f]{64}$"
SOURCE_URI = r"^(file://|https://|gs://|\.{0,2}/|[\w.\-]+/|[\w.\-]+$)"

Sha256 = Annotated[str, StringConstraints(pattern=SHA256)]

_SECRET_NAME = re.compile(r"(?i)(secret|token|passw|credential|api[-_]?key|private[-_]?key|access[-_]?key)")


class SecretRef(Frozen):
    """A reference to a secret; the value never stands in a spec, a record or a log."""

    secret: str = Field(
        description="Name of the Kubernetes Secret. Locally the environment variable of the same name as the entry is "
        "handed on."
    )
    key: str = Field(description="Key within the Secret.")


class Train(Frozen):
    """A training command: the user's own program, run as a child process or in the user's own image."""

    command: tuple[str, ...] = Field(
        min_length=1,
        description="Program and arguments. `{output}` becomes the directory to write the model to, `{inputs}` the "
        "folder the inputs are relative to; `python` is this interpreter where Slipway runs it itself.",
    )
    args: dict[str, str | int | float | bool] = Field(
        {},
        description="Further arguments, appended as `--name=value`; one entry is easily overridden by `--set`. "
        "Default none.",
    )
    inputs: tuple[str, ...] = Field(
        (),
        description="Files and folders the result depends on. They enter the release's identity, so an unchanged "
        "release is a no-op; without any, every run trains anew. Default none.",
    )
    env: dict[str, str | SecretRef] = Field(
        {}, description="Environment variables: plain values, or references to secrets. Default none."
    )
    image: str = Field(
        "",
        description="On an engine: the user's image, in which Slipway need not be installed. Default: Slipway's "
        "`model` image.",
    )
    resources: Resources = Field(
        Resources(cpu="2", memory="4Gi"), description="On an engine: what the training pod asks for."
    )
    timeout_s: int = Field(3600, ge=1, description="Seconds the command may take. Default 3600.")

    @field_validator("env")
    @classmethod
    def _secrets_are_references(cls, env: dict[str, str | SecretRef]) -> dict[str, str | SecretRef]:
        for name, value in env.items():
            if isinstance(value, str) and value and _SECRET_NAME.search(name):
                raise ValueError(
                    f"{name} looks like a secret: give a reference ({{secret: NAME, key: KEY}}), not its value"
                )
        return env


class Fetch(Frozen):
    """A model somebody else made, by URI."""

    uri: str = Field(
        pattern=SOURCE_URI,
        description="A path, `file://`, `https://` or `gs://` URI of a model directory, model file or archive (.tar, "
        ".tar.gz, .tgz, .zip).",
    )
    sha256: Sha256 | None = Field(
        None,
        description="Digest the fetched file must have (of a directory: its manifest's digest). Default none: "
        "recorded, not required.",
    )
    timeout_s: int = Field(1800, ge=1, description="Seconds the fetch may take. Default 1800.")
    max_bytes: int = Field(20 * 2**30, ge=1, description="Bytes the model may have, unpacked. Default 20 GiB.")


class FromVersion(Frozen):
    """A version already published in another store: released as it is, never rebuilt."""

    store: str = Field(description="URI of the other store.")
    model: ModelName | None = Field(None, description="Model name there. Default: this model's name.")
    version: int = Field(ge=1, description="Version number there.")


class Source(Frozen):
    """Where the model comes from: exactly one of the three."""

    train: Train | None = Field(None, description="Train it by a command. Default none.")
    fetch: Fetch | None = Field(None, description="Fetch it. Default none.")
    version: FromVersion | None = Field(None, description="Take a published version of another store. Default none.")

    @model_validator(mode="after")
    def _exactly_one(self) -> "Source":
        given = [name for name in ("train", "fetch", "version") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of train, fetch, version is needed, found {' and '.join(given) or 'none'}")
        return self
