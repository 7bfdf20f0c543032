import subprocess
import sys
from pathlib import Path

import pytest

from components.savedmodel.messages import enum_name, message

ROOT = Path(__file__).resolve().parents[3]

RACE = """
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from components.savedmodel.messages import message, pool
start = Barrier(8)
def first(_):
    start.wait()
    return id(pool()), id(message("tensorflow.TensorProto"))
with ThreadPoolExecutor(8) as threads:
    print(len(set(threads.map(first, range(8)))))
"""


def test_threads_that_are_first_together_get_the_same_messages():
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", RACE], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "1"


def test_messages_of_tensorflow_and_of_its_serving_fit_each_other():
    request = message("tensorflow.serving.PredictRequest")()
    request.inputs["x"].CopyFrom(message("tensorflow.TensorProto")(dtype=1))
    assert enum_name("tensorflow.DataType", request.inputs["x"].dtype) == "DT_FLOAT"
    assert enum_name("tensorflow.DataType", 999) == "999"


def test_an_unknown_message_is_told_by_name():
    with pytest.raises(KeyError, match="NoSuch"):
        message("tensorflow.NoSuch")
