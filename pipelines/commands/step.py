"""``slipway step``: one step of a release, in either engine's dialect; the same functions ``slipway run`` calls."""

from pathlib import Path

import click

from components.core import specfile
from components.core.clock import SystemClock
from components.core.errors import EXIT_OK, Rejected
from components.core.records import Step
from components.core.release import Identity, identify
from components.core.spec import ReleaseSpec
from components.store.open import open_store
from pipelines.cli import Session
from pipelines.dialects import Call, from_executor_input, from_files
from pipelines.finish import EXIT_CODES, finish
from pipelines.open import TARGETS, local_target
from pipelines.parameters import BASE_DIR, IDENTITY, RUN_ID, SPEC, STATE, TARGET, identity_from_json
from pipelines.perform import perform
from pipelines.steps import BY_NAME, FINISH
from pipelines.summary import in_a_line
from pipelines.work import Work


@click.command("step")
@click.argument("name", type=click.Choice([*BY_NAME, FINISH]))
@click.option("--spec", type=click.Path(path_type=Path), help="Release spec as a file.")
@click.option("--spec-json", default="", help="Release spec as JSON, as `slipway compile` resolves it.")
@click.option("--identity", default="", help="Digests of the declared inputs, as JSON.  [default: computed]")
@click.option("--base-dir", default="", help="Folder relative paths start from.  [default: the spec's]")
@click.option("--target", type=click.Choice(TARGETS), default="local", show_default=True, help="Where servers run.")
@click.option("--run-id", default="", help="What makes a release new whose source is not pinned.")
@click.option("--input", "inputs", multiple=True, metavar="NAME=PATH", help="An input artifact; repeatable.")
@click.option("--outputs-dir", type=click.Path(path_type=Path), help="Folder for the output artifacts.")
@click.option("--executor-input", default="", help="Kubeflow's ExecutorInput as JSON: all of the above in one.")
@click.pass_obj
def step_command(
    session: Session,
    name: str,
    spec: Path | None,
    spec_json: str,
    identity: str,
    base_dir: str,
    target: str,
    run_id: str,
    inputs: tuple[str, ...],
    outputs_dir: Path | None,
    executor_input: str,
) -> int:
    """Do step NAME of a release, as an engine does.

    A verdict to roll back is a result, not a failure: exit 0. `finish`, the exit step, exits 40 then, so that the run
    is red. A step whose outcome is recorded already returns it.
    """
    outputs = BY_NAME[name].outputs if name in BY_NAME else ()
    if executor_input:
        call = from_executor_input(executor_input)
    elif outputs_dir is not None or name == FINISH:
        given = {IDENTITY.name: identity, BASE_DIR.name: base_dir, TARGET.name: target, RUN_ID.name: run_id}
        call = from_files({**given, SPEC.name: spec_json}, inputs, outputs_dir or Path(), outputs)
    else:
        raise click.UsageError("give --outputs-dir, or --executor-input")
    work, who = _work(session, call, spec)
    if name == FINISH:
        return _finish(work, who, call)
    _require_artifacts(name, call)
    record = perform(Step(name), work)
    call.answer(record, metadata={"release": work.release, "summary": in_a_line(record)})
    click.echo(in_a_line(record), err=True)
    return EXIT_OK


def _require_artifacts(name: str, call: Call) -> None:
    step = BY_NAME[name]
    missing = [artifact.name for artifact in step.inputs if artifact.name not in call.inputs]
    if missing:
        raise Rejected(
            f"step {name} misses its input {', '.join(missing)}",
            expected=", ".join(artifact.name for artifact in step.inputs),
            got=", ".join(call.inputs) or "no input",
            fix=" ".join(f"--input {each}=PATH" for each in missing),
            reason="INPUT_MISSING",
        )
    unplaced = [artifact.name for artifact in step.outputs if artifact.name not in call.outputs]
    if unplaced:
        raise Rejected(
            f"step {name} is not told where to write {', '.join(unplaced)}",
            expected=", ".join(artifact.name for artifact in step.outputs),
            got=", ".join(call.outputs) or "no output",
            reason="OUTPUT_MISSING",
        )


def _finish(work: Work, who: Identity, call: Call) -> int:
    release = finish(work, spec_digest=who.spec_digest)
    call.answer(None, metadata={"release": release.id, "outcome": release.outcome.value})
    click.echo(f"{release.model} release {release.id}: {release.outcome}", err=True)
    return EXIT_CODES[release.outcome]


def _work(session: Session, call: Call, spec_file: Path | None) -> tuple[Work, Identity]:
    parameters = call.parameters
    spec, folder = _spec(parameters.get(SPEC.name, ""), spec_file)
    base_dir = Path(parameters.get(BASE_DIR.name) or folder)
    given = parameters.get(IDENTITY.name, "")
    who = identity_from_json(given) if given else identify(spec, base_dir)
    store = open_store(spec.store.uri, base_dir=base_dir)
    if (target := parameters.get(TARGET.name) or TARGETS[0]) not in TARGETS:
        raise Rejected(f"there is no target {target}", expected=" or ".join(TARGETS), got=target, reason="NO_TARGET")
    state = parameters.get(STATE.name) or str(session.state)
    here = Session(state=Path(state), environment=session.environment, debug=session.debug)
    work = Work(
        spec=spec,
        release=who.release_id("" if who.repeatable else parameters.get(RUN_ID.name, "")),
        identity=who,
        base_dir=base_dir,
        store=store,
        target=local_target(here),
        clock=SystemClock(),
        environment=session.environment,
        progress=lambda text: click.echo(text, err=True),
        inputs=call.inputs,
        outputs=call.outputs,
    )
    return work, who


def _spec(text: str, spec_file: Path | None) -> tuple[ReleaseSpec, Path]:
    if text:
        return specfile.from_json(text, where="the parameter `spec`"), Path()
    if spec_file is None:
        raise click.UsageError("give --spec FILE or --spec-json JSON")
    loaded = specfile.load(spec_file)
    return loaded.spec, loaded.base_dir
