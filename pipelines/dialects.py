"""How an engine tells a step what to work on, and how the step answers: two dialects of one call.

``--outputs-dir``: files. Artifacts come as ``--input NAME=PATH``; outputs go to ``DIR/NAME``. Argo speaks it.

``--executor-input``: one JSON argument that Kubeflow Pipelines' launcher fills in for ``{{$}}``: an ``ExecutorInput``
(kubeflow/pipelines ``api/v2alpha1/pipeline_spec.proto``). Artifacts come with URIs that the launcher mirrors below
``/gcs``, ``/s3`` and ``/minio`` (``backend/src/v2/component/launcher_v2.go``); the answer is an ``ExecutorOutput`` in
the file it names. No kfp package is needed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.core.errors import Rejected
from components.core.records import AnyRecord
from pipelines.steps import Artifact

_MIRRORS = (("gs://", "/gcs/"), ("s3://", "/s3/"), ("minio://", "/minio/"), ("file://", ""))


@dataclass(frozen=True, slots=True)
class Call:
    """What a step is called with, whichever dialect said it.

    Attributes:
        parameters: By name; see ``pipelines.parameters``.
        inputs: Path of each input artifact.
        outputs: Path of each output artifact.
        answer_file: File for Kubeflow's ``ExecutorOutput``; none in the other dialect.
        uris: URI of each output artifact, for that answer.
    """

    parameters: Mapping[str, str]
    inputs: Mapping[str, Path]
    outputs: Mapping[str, Path]
    answer_file: Path | None = None
    uris: Mapping[str, str] | None = None

    def answer(self, record: AnyRecord | None, *, metadata: Mapping[str, str]) -> None:
        """Write Kubeflow's ``ExecutorOutput``, where one is asked for, with metadata that its UI shows."""
        if self.answer_file is None:
            return
        described = {**metadata, "digest": record.digest} if record is not None else dict(metadata)
        artifacts = {
            name: {"artifacts": [{"name": name, "uri": uri, "metadata": described}]}
            for name, uri in (self.uris or {}).items()
        }
        self.answer_file.parent.mkdir(parents=True, exist_ok=True)
        self.answer_file.write_text(json.dumps({"artifacts": artifacts}))


def from_files(
    parameters: Mapping[str, str], inputs: tuple[str, ...], outputs_dir: Path, artifacts: tuple[Artifact, ...]
) -> Call:
    """Return the call that ``--input NAME=PATH`` and ``--outputs-dir`` make.

    Raises:
        Rejected: An input is not of the form NAME=PATH.
    """
    paths: dict[str, Path] = {}
    for text in inputs:
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise Rejected(f"--input {text}: not an input", expected="NAME=PATH", got=text, reason="BAD_INPUT")
        paths[name] = Path(path)
    return Call(parameters, paths, {artifact.name: outputs_dir / artifact.name for artifact in artifacts})


def from_executor_input(text: str) -> Call:
    """Return the call that Kubeflow's ``ExecutorInput`` makes.

    Raises:
        Rejected: It is not an ``ExecutorInput``.
    """
    try:
        data = json.loads(text)
        inputs, outputs = data.get("inputs", {}), data.get("outputs", {})
        parameters = {name: _as_text(value) for name, value in inputs.get("parameterValues", {}).items()}
        given = {name: _first_uri(found) for name, found in inputs.get("artifacts", {}).items()}
        wanted = {name: _first_uri(found) for name, found in outputs.get("artifacts", {}).items()}
        answer_file = outputs.get("outputFile")
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise Rejected(
            "--executor-input is not what Kubeflow's launcher passes for {{$}}",
            expected="a JSON ExecutorInput",
            got=f"{type(error).__name__}: {error}",
            reason="BAD_EXECUTOR_INPUT",
        ) from error
    return Call(
        parameters,
        {name: local_path(uri) for name, uri in given.items()},
        {name: local_path(uri) for name, uri in wanted.items()},
        Path(answer_file) if answer_file else None,
        wanted,
    )


def _first_uri(found: Mapping[str, list[Mapping[str, str]]]) -> str:
    return found["artifacts"][0]["uri"]


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def local_path(uri: str) -> Path:
    """Return where the launcher mirrors an artifact's URI."""
    for scheme, folder in _MIRRORS:
        if uri.startswith(scheme):
            return Path(folder + uri.removeprefix(scheme))
    return Path(uri)
