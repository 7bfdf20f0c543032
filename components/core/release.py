"""Which release is this? The same wishes on the same inputs are the same release: a repeated run can be a no-op."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from components.core.digest import Digest, canonical_json, of_bytes, of_directory, of_file, of_json
from components.core.errors import Rejected
from components.core.spec import ReleaseSpec, Validate

ID_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Identity:
    """What a release id is computed from.

    Attributes:
        spec_digest: Digest of the resolved spec.
        inputs: Digest of every declared input, by the path the spec writes.
        repeatable: Whether equal identities mean equal results. Training without declared inputs and an unpinned
            download do not: nothing says that their source is the same as last time.
    """

    spec_digest: Digest
    inputs: Mapping[str, Digest]
    repeatable: bool

    def release_id(self, nonce: str = "") -> str:
        """Return the release id: 16 hexadecimal digits.

        Args:
            nonce: Something that differs from run to run, for a release that is to be made anew.
        """
        digest = of_json([self.spec_digest, sorted(self.inputs.items()), nonce])
        return digest.removeprefix("sha256:")[:ID_LENGTH]


def identify(spec: ReleaseSpec, base_dir: Path) -> Identity:
    """Return the identity of a release.

    Raises:
        Rejected: A declared input is not there.
    """
    wanted, repeatable = _declared(spec)
    inputs = {name: _digest(base_dir / name, name) for name in wanted}
    return Identity(of_bytes(canonical(spec)), inputs, repeatable)


def canonical(spec: ReleaseSpec) -> bytes:
    """Return the resolved spec as canonical JSON without fields at their defaults.

    This is what the spec's digest is computed from. A later Slipway that knows more fields leaves it unchanged, so an
    upgrade alone releases nothing anew.
    """
    return canonical_json(spec.model_dump(mode="json", by_alias=True, exclude_defaults=True))


def _declared(spec: ReleaseSpec) -> tuple[list[str], bool]:
    names: list[str] = []
    repeatable = True
    if spec.source.train:
        names += spec.source.train.inputs
        repeatable = bool(spec.source.train.inputs)
    if spec.source.fetch:
        uri = urlsplit(spec.source.fetch.uri)
        local = uri.scheme in {"", "file"}
        names += [uri.path] if local else []
        repeatable = local or spec.source.fetch.sha256 is not None
    names += labelled_files(spec.validation)
    if spec.canary.traffic.requests:
        names.append(spec.canary.traffic.requests)
    return list(dict.fromkeys(names)), repeatable


def labelled_files(spec: Validate) -> list[str]:
    """Return the files that validation reads beside the model: labelled data and golden requests."""
    return [name for name in (spec.evaluate.data if spec.evaluate else "", spec.golden or "") if name]


def _digest(path: Path, name: str) -> Digest:
    if path.is_dir():
        return of_directory(path).digest
    try:
        return of_file(path).digest
    except OSError as error:
        raise Rejected(
            f"{name}: a declared input cannot be read",
            expected=f"a file or folder at {path}",
            got=error.strerror or str(error),
            fix="correct the path in the spec; paths are relative to the folder of the spec file",
            reason="INPUT_MISSING",
        ) from error
