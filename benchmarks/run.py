"""How much longer a whole warm release takes than a script that makes the same TensorFlow calls in as many processes.

The claim: at most 25 % longer, training left out. Both sides run alternately, several times, in this one run; printed
is the median of the paired ratios, and both times.

Slipway's side is ``slipway run`` of the digits example on a model that was trained before: export, optimize, validate,
publish, deploy, canary, promote. The script's side (``--script`` below) makes four processes, as the release does, that
import TensorFlow and then

1. load the Keras model, write it as a SavedModel, load that and answer its warm-up requests;
2. load the original, freeze it, let grappler prune, inline, fold and merge, write the result, load both twice and time
   both in pairs. Freezing is done by TensorFlow's own tool, which loads the model once more than Slipway does; those
   seconds are taken off the script's time;
3. load the candidate and the original, evaluate the labelled data, answer parity requests with both;
4. load the candidate as a server would and answer as many requests as the canary asked.

Run ``python -P benchmarks/run.py [--rounds N]``.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "01-digits"
SLIPWAY = Path(sys.executable).with_name("slipway")
BATCHES = (1, 32)
PAIRS = 60
CANARY_RATE_PER_S = 400

COMMON = """
import os, sys, time
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import numpy as np
import tensorflow as tf
from tensorflow.python.saved_model import loader

def load(path):
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph)
    with graph.as_default():
        meta = loader.load(session, ["serve"], path)
    signature = meta.signature_def["serving_default"]
    feed = signature.inputs["image"].name
    fetch = signature.outputs["scores"].name
    return lambda x: session.run(fetch, {feed: x}), meta, feed, fetch

def rows(n):
    return np.random.default_rng(n).random((n, 8, 8), np.float32)
"""

EXPORT = """
import keras
keras_file, out = sys.argv[1:3]
model = keras.saving.load_model(keras_file, compile=False)
serve = tf.function(lambda image: {"scores": model(image, training=False)},
                    input_signature=[tf.TensorSpec((None, 8, 8), tf.float32, name="image")])
root = tf.Module()
root.model, root.variables_of_model = model, [variable.value for variable in model.variables]
tf.saved_model.save(root, out, signatures={"serving_default": serve.get_concrete_function()})
run, *_ = load(out)
for n in (1, 32):
    run(rows(n))
"""

OPTIMIZE = """
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tensorflow.python.grappler import tf_optimizer
source, out, pairs = sys.argv[1], sys.argv[2], int(sys.argv[3])
run, *_ = load(source)
for n in (1, 2, 32):
    run(rows(n))
started = time.perf_counter()
model = tf.saved_model.load(source)
frozen = convert_variables_to_constants_v2(model.signatures["serving_default"])
print(time.perf_counter() - started)
graph = frozen.graph.as_graph_def()
with tf.Graph().as_default() as built:
    tf.import_graph_def(graph, name="")
    meta = tf.compat.v1.train.export_meta_graph(graph_def=graph, graph=built)
feed, fetch = frozen.inputs[0].name, frozen.outputs[0].name
meta.collection_def["train_op"].node_list.value.extend([fetch])
config = config_pb2.ConfigProto()
options = config.graph_options.rewrite_options
options.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.ONE
for names in (["pruning"], ["function"], ["constfold"], ["common_subgraph_elimination"], ["pruning"]):
    options.ClearField("optimizers")
    options.optimizers.extend(names)
    meta.graph_def.CopyFrom(tf_optimizer.OptimizeGraph(config, meta))
with tf.Graph().as_default() as built:
    tf.import_graph_def(meta.graph_def, name="")
    with tf.compat.v1.Session(graph=built) as session:
        builder = tf.compat.v1.saved_model.Builder(out)
        tensor = tf.compat.v1.saved_model.utils.build_tensor_info
        signature = tf.compat.v1.saved_model.signature_def_utils.build_signature_def(
            {"image": tensor(built.get_tensor_by_name(feed))}, {"scores": tensor(built.get_tensor_by_name(fetch))},
            "tensorflow/serving/predict")
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
check, *_ = load(out)
for n in (1, 2, 32):
    check(rows(n))
for first in (1, 32):
    before, after = load(source)[0], load(out)[0]
    before(rows(first)), after(rows(first))
    for n in (1, 32):
        x = rows(n)
        for _ in range(5):
            started = time.perf_counter(); before(x); once = time.perf_counter() - started; after(x)
        repeats = max(1, round(1e-3 / once))
        for _ in range(pairs):
            for call in (before, after):
                for _ in range(repeats):
                    call(x)
"""

VALIDATE = """
candidate, source, data = sys.argv[1:4]
run, *_ = load(candidate)
for n in (1, 1, 32, 1, 2, 32):
    run(rows(n))
images = np.load(data)["image"]
for start in range(0, len(images), 64):
    run(images[start:start + 64])
reference, *_ = load(source)
for n in (1, 32, 1, 2, 32):
    reference(rows(n))
"""

SERVE = """
candidate, data, requests = sys.argv[1], sys.argv[2], int(sys.argv[3])
run, *_ = load(candidate)
for n in (1, 32):
    run(rows(n))
images = np.load(data)["image"]
for number in range(requests):
    run(images[number % len(images)][None])
"""


def script(keras_file: Path, folder: Path, requests: int) -> float:
    """Run the script's four processes; return its seconds."""
    exported, optimized, data = folder / "exported", folder / "optimized", EXAMPLE / "holdout.npz"
    started, extra = time.perf_counter(), 0.0
    for code, *words in (
        (EXPORT, keras_file, exported),
        (OPTIMIZE, exported, optimized, PAIRS),
        (VALIDATE, optimized, exported, data),
        (SERVE, optimized, data, requests),
    ):
        command = [sys.executable, "-c", COMMON + code, *map(str, words)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        extra += float(done.stdout or 0)
    return time.perf_counter() - started - extra


def release(keras_file: Path, folder: Path) -> tuple[float, int]:
    """Run the release without its training; return its seconds and how many requests its canary judged."""
    folder.mkdir()
    shutil.copy(keras_file, folder / "model.keras")
    sets = (f"store.uri={folder / 'store'}", f"canary.traffic.rate_per_s={CANARY_RATE_PER_S}")
    spec = folder / "release.yaml"
    text = (EXAMPLE / "release.yaml").read_text()
    start, end = text.index("source:\n"), text.index("# 2. What clients")
    spec.write_text(text[:start] + "source: {fetch: {uri: ./model.keras}}\n" + text[end:])
    shutil.copy(EXAMPLE / "holdout.npz", folder)
    command = [str(SLIPWAY), "--state", str(folder / "state")]
    words = [word for each in sets for word in ("--set", each)]
    started = time.perf_counter()
    done = subprocess.run(
        [*command, "run", str(spec), "--json", *words], check=True, capture_output=True, text=True, timeout=600
    )
    seconds = time.perf_counter() - started
    subprocess.run([*command, "down"], check=True, capture_output=True, timeout=60)
    record = Path(json.loads(done.stdout)["record"]).with_name("canary.json")
    judged = json.loads(record.read_text())["judgement"]["sample"]["candidate"]["requests"]
    return seconds, int(judged)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs after one warm-up of each")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train = [sys.executable, str(EXAMPLE / "train.py"), "--output", str(folder), "--seed=1"]
        subprocess.run(train, check=True, capture_output=True, timeout=300)
        keras_file = folder / "model.keras"
        times: list[tuple[float, float]] = []
        for number in range(rounds + 1):
            ours, requests = release(keras_file, folder / f"release-{number}")
            theirs = script(keras_file, folder / f"script-{number}", requests)
            if number:
                times.append((ours, theirs))
                print(f"round {number}: release {ours:.1f} s, script {theirs:.1f} s, ratio {ours / theirs:.2f}")
    ratio = statistics.median(ours / theirs for ours, theirs in times)
    print(
        f"\nwhole warm release without training, against the same TensorFlow calls: {ratio:.2f}  (claim: at most 1.25)"
    )


if __name__ == "__main__":
    main()
