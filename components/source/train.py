"""Run the user's own training command. Its contract is an exit code and a model directory, nothing else.

User code never enters our interpreter: it is a child process with the user's own path, and what it says goes to a log.
"""

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.core.errors import Rejected, Unavailable
from components.core.process import ENTRY, Crashed, Limits, Progress, run_command, silent, tail
from components.core.spec import SecretRef, Train

_STOPPED_FROM_OUTSIDE = {-9: "SIGKILL", -15: "SIGTERM"}


@dataclass(frozen=True, slots=True)
class Trained:
    """What was run, without secrets."""

    origin: str


def train(
    spec: Train, *, base_dir: Path, out_dir: Path, environment: Mapping[str, str], progress: Progress = silent
) -> Trained:
    """Run the training command and keep what it wrote.

    Args:
        spec: The command, its arguments, environment and time limit.
        base_dir: Working directory: the folder of the spec.
        out_dir: Directory that will hold the model; it appears only after the command succeeded.
        environment: Environment the command starts from, and where references to secrets are resolved.
        progress: Is told each line ``progress: …`` the command prints.

    Raises:
        Rejected: The command failed, took too long, or wrote nothing.
        Unavailable: It was killed from outside, by a lack of memory for instance, or a secret it needs is not here.
    """
    staging, log = out_dir.with_name(out_dir.name + ".partial"), out_dir.with_name("train.log")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    log.unlink(missing_ok=True)
    try:
        _run(spec, command(spec, output=str(staging), inputs=str(base_dir)), base_dir, environment, log, progress)
        if not any(path.is_file() for path in staging.rglob("*")):
            raise Rejected(
                "the training command ended well but wrote nothing",
                expected=f"a model below the directory it was given as {{output}}: {staging}",
                got="an empty directory",
                fix=f"read {log}; check that the command writes to the path it is given",
                reason="TRAINER_WROTE_NOTHING",
            )
        shutil.rmtree(out_dir, ignore_errors=True)
        staging.rename(out_dir)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Trained(origin=" ".join(command(spec, output="{output}", inputs="{inputs}")))


def command(spec: Train, *, output: str, inputs: str) -> list[str]:
    """Return the program and its arguments: ``{output}`` and ``{inputs}`` filled in, ``args`` as ``--name=value``."""
    words = [*spec.command, *(f"--{name}={_as_text(value)}" for name, value in spec.args.items())]
    return [word.replace("{output}", output).replace("{inputs}", inputs) for word in words]


def _as_text(value: str | float | bool) -> str:  # noqa: FBT001 - a value of the user's, not a switch
    return str(value).lower() if isinstance(value, bool) else str(value)


def _run(
    spec: Train, words: list[str], base_dir: Path, environment: Mapping[str, str], log: Path, progress: Progress
) -> None:
    program = _program(words[0], base_dir, environment)
    bound = [sys.executable, "-P", str(ENTRY), "--module", "components.core.bound", program, *words[1:]]
    resolved = _resolved(spec.env, environment)
    env = {**environment, "PYTHONUNBUFFERED": "1", **resolved}
    secrets = [resolved[name] for name, value in spec.env.items() if isinstance(value, SecretRef)]
    limits = Limits(spec.timeout_s)
    try:
        code = run_command(bound, limits=limits, log=log, progress=progress, env=env, cwd=base_dir, secrets=secrets)
    except Crashed as crash:
        raise Rejected(
            f"the training command did not end within {spec.timeout_s} s",
            got=crash.log,
            fix="raise source.train.timeout_s, or train less",
            reason="TRAINER_TIMEOUT",
        ) from crash
    if code in _STOPPED_FROM_OUTSIDE:
        raise Unavailable(
            f"the training command was ended by {_STOPPED_FROM_OUTSIDE[code]}",
            got=tail(log),
            fix="look for a lack of memory, then run the same command again",
            reason="TRAINER_KILLED",
        )
    if code != 0:
        raise Rejected(
            f"the training command failed with exit code {code}: {' '.join(spec.command)}",
            expected="exit code 0",
            got=f"its last lines:\n{tail(log)}",
            fix=f"the whole output is in {log}",
            reason="TRAINER_FAILED",
        )


def _program(name: str, base_dir: Path, environment: Mapping[str, str]) -> str:
    if name in {"python", "python3"}:
        return sys.executable
    found = shutil.which(str(base_dir / name) if "/" in name else name, path=environment.get("PATH"))
    if found is None:
        raise Rejected(
            f"source.train.command: there is no program {name}",
            expected="a program on the PATH, a path relative to the spec's folder, or `python`",
            got=name,
            reason="NO_PROGRAM",
        )
    return found


def _resolved(env: Mapping[str, str | SecretRef], environment: Mapping[str, str]) -> dict[str, str]:
    missing = [name for name, value in env.items() if isinstance(value, SecretRef) and name not in environment]
    if missing:
        raise Unavailable(
            f"source.train.env: no value here for {', '.join(missing)}",
            expected="on this machine a reference to a secret is read from the environment variable of its name",
            fix=f"export {missing[0]}=… and run again",
            reason="SECRET_MISSING",
        )
    return {name: environment[name] if isinstance(value, SecretRef) else value for name, value in env.items()}
