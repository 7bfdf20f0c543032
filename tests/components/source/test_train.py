import signal
import sys
import time
from pathlib import Path

import pytest

from components.core.errors import Rejected, Unavailable
from components.core.spec import SecretRef, Train
from components.source.train import command, train

WRITES = "import pathlib, sys; pathlib.Path(sys.argv[1], 'model.keras').write_text('weights')"
ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def run(tmp_path, spec: Train, environment=ENVIRONMENT, **options):
    return train(spec, base_dir=tmp_path, out_dir=tmp_path / "out" / "model", environment=environment, **options)


def python(code: str, *arguments: str, **fields) -> Train:
    return Train(command=("python", "-c", code, *arguments), **fields)


def test_what_the_command_wrote_is_the_model(tmp_path):
    trained = run(tmp_path, python(WRITES, "{output}"))
    assert (tmp_path / "out" / "model" / "model.keras").read_text() == "weights"
    assert "{output}" in trained.origin


def test_arguments_follow_the_command_as_name_and_value():
    spec = Train(
        command=("python", "train.py", "{output}"), args={"seed": 1, "shuffle": True, "rate": 0.5, "name": "a"}
    )
    assert command(spec, output="OUT", inputs="IN") == [
        "python", "train.py", "OUT", "--seed=1", "--shuffle=true", "--rate=0.5", "--name=a",
    ]  # fmt: skip


def test_a_failing_command_is_rejected_with_its_last_lines_and_leaves_nothing(tmp_path):
    with pytest.raises(Rejected, match="exit code 3") as error:
        run(tmp_path, python("import sys; print('no data', file=sys.stderr); sys.exit(3)"))
    assert error.value.reason == "TRAINER_FAILED"
    assert "no data" in error.value.got
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["train.log"]


def test_half_a_model_of_a_failing_command_is_not_kept(tmp_path):
    with pytest.raises(Rejected):
        run(tmp_path, python(WRITES + "; sys.exit(1)", "{output}"))
    assert not (tmp_path / "out" / "model").exists()


def test_a_command_that_writes_nothing_is_rejected(tmp_path):
    with pytest.raises(Rejected, match="wrote nothing") as error:
        run(tmp_path, python("pass"))
    assert error.value.reason == "TRAINER_WROTE_NOTHING"


def test_a_command_that_takes_too_long_is_ended(tmp_path):
    with pytest.raises(Rejected, match="did not end within 1 s"):
        run(tmp_path, python("import time; time.sleep(60)", timeout_s=1))


def test_a_command_killed_from_outside_may_be_tried_again(tmp_path):
    with pytest.raises(Unavailable, match="SIGKILL"):
        run(tmp_path, python(f"import os; os.kill(os.getpid(), {signal.SIGKILL})"))


def test_an_unknown_program_is_rejected_by_name(tmp_path):
    with pytest.raises(Rejected, match="there is no program trian"):
        run(tmp_path, Train(command=("trian",)))


def test_a_secret_comes_from_the_environment_and_is_missed_by_name(tmp_path):
    code = "import os, pathlib, sys; pathlib.Path(sys.argv[1], 'x').write_text(os.environ['API_TOKEN'])"
    spec = python(code, "{output}", env={"API_TOKEN": SecretRef(secret="s", key="k")})
    trained = run(tmp_path, spec, {**ENVIRONMENT, "API_TOKEN": "hunter22"})
    assert "hunter22" not in trained.origin
    with pytest.raises(Unavailable, match="no value here for API_TOKEN"):
        run(tmp_path, spec)


def test_a_secret_that_the_command_prints_is_blotted_out_wherever_it_would_show(tmp_path):
    code = "import os; t = os.environ['API_TOKEN']; print('progress: ' + t); print(t); raise SystemExit('lost ' + t)"
    heard: list[str] = []
    with pytest.raises(Rejected) as error:
        run(
            tmp_path,
            python(code, env={"API_TOKEN": SecretRef(secret="s", key="k")}),
            {**ENVIRONMENT, "API_TOKEN": "hunter22"},
            progress=heard.append,
        )
    assert heard == ["***"]
    assert "lost ***" in error.value.got
    assert "hunter22" not in (tmp_path / "out" / "train.log").read_text() + str(error.value)


def test_what_the_command_leaves_running_is_ended_and_not_waited_for(tmp_path):
    script = "setsid sleep 600 & echo $! > pid; echo hi > $1/model"
    started = time.monotonic()
    run(tmp_path, Train(command=("sh", "-c", script, "sh", "{output}")))
    assert time.monotonic() - started < 60
    pid = int((tmp_path / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists() or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"


def test_megabytes_without_a_line_end_are_passed_on_in_bounded_pieces(tmp_path):
    code = WRITES + "; sys.stdout.write('x' * 3_000_000)"
    run(tmp_path, python(code, "{output}"))
    assert (tmp_path / "out" / "train.log").stat().st_size == 3_000_000


def test_the_command_runs_in_the_folder_of_the_spec_with_modules_of_its_own(tmp_path):
    (tmp_path / "components").mkdir()
    (tmp_path / "components" / "__init__.py").write_text("MINE = 'mine'")
    (tmp_path / "train.py").write_text(
        "import pathlib, sys, components; pathlib.Path(sys.argv[1], 'x').write_text(components.MINE)"
    )
    run(tmp_path, Train(command=("python", "train.py", "{output}")))
    assert (tmp_path / "out" / "model" / "x").read_text() == "mine"


def test_python_is_the_interpreter_that_runs_slipway(tmp_path):
    code = "import pathlib, sys; pathlib.Path(sys.argv[1], 'x').write_text(sys.executable)"
    run(tmp_path, python(code, "{output}"))
    assert (tmp_path / "out" / "model" / "x").read_text() == sys.executable


def test_progress_lines_are_passed_on_while_it_runs(tmp_path):
    heard: list[str] = []
    run(tmp_path, python(WRITES + "; print('progress: epoch 1')", "{output}"), progress=heard.append)
    assert heard == ["epoch 1"]
