"""How fast `slipway show` is beside `saved_model_cli show --all`, and what it costs when only signatures are asked for.

Run as `python -P benchmarks/inspect.py [--rounds N]`. Both commands are started in turn, N times, on the same
models: wall-clock seconds of whole processes, interpreters included; the median of each is printed, and the ratio. Its
target is 50. The second table asks for one signature of models whose graphs differ in size: time, and pages looked at.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from components.savedmodel.describe import describe
from components.savedmodel.files import DirectoryFiles

TARGET = 50
HERE = Path(sys.executable).parent
MODELS = """
import sys, keras, numpy as np, tensorflow as tf
from pathlib import Path
folder = Path(sys.argv[1])
small = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10, activation="softmax")])
small.export(folder / "dense", verbose=False)
keras.applications.MobileNetV2(weights=None).export(folder / "mobilenet_v2", verbose=False)

class Constants(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32, name="x")])
    def add(self, x):
        return {"y": x + tf.constant(np.random.default_rng(1).random(MEGABYTES * 2 ** 18, np.float32))[0]}

for MEGABYTES in (1, 64, 512):
    module = Constants()
    path = str(folder / f"constants_{MEGABYTES:03}_mib")
    tf.saved_model.save(module, path, signatures={"serving_default": module.add})
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, "-c", MODELS, name], check=True, capture_output=True)
        compare_with_saved_model_cli([folder / "dense", folder / "mobilenet_v2"], rounds)
        independence_of_the_graph(sorted(folder.glob("constants_*")), rounds)


def compare_with_saved_model_cli(paths: list[Path], rounds: int) -> None:
    print(f"{'model':<16}{'nodes':>8}{'slipway show':>15}{'saved_model_cli':>18}{'ratio':>8}   (median of {rounds})")
    for path in paths:
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(seconds([str(HERE / "slipway"), "show", str(path)]))
            theirs.append(seconds([str(HERE / "saved_model_cli"), "show", "--dir", str(path), "--all"]))
        (graph,) = describe(DirectoryFiles(path)).graphs
        nodes = sum((graph.ops or {}).values())
        mine, other = statistics.median(ours), statistics.median(theirs)
        met = "" if other / mine >= TARGET else f"   below the target of {TARGET}"
        print(f"{path.name:<16}{nodes:>8}{mine:>13.3f} s{other:>16.2f} s{other / mine:>8.1f}{met}")


def independence_of_the_graph(paths: list[Path], rounds: int) -> None:
    print(f"\n{'one signature of':<20}{'graph':>12}{'slipway show':>15}{'pages touched':>16}")
    for path in paths:
        size = (path / "saved_model.pb").stat().st_size
        command = [str(HERE / "slipway"), "show", str(path), "--signature-def", "serving_default"]
        taken = statistics.median(seconds(command) for _ in range(rounds))
        print(f"{path.name:<20}{size / 2**20:>8.1f} MiB{taken:>13.3f} s{pages(path):>16}")


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def pages(path: Path) -> int:
    """Page faults while the signatures are read: what was looked at, whether it came from the disk or a cache."""
    describe(DirectoryFiles(path), brief=True)  # the interpreter's own memory has its faults the first time
    before = resource.getrusage(resource.RUSAGE_SELF)
    describe(DirectoryFiles(path), brief=True)
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_minflt + after.ru_majflt - before.ru_minflt - before.ru_majflt


if __name__ == "__main__":
    main()
