"""Write ``stateless_ops.txt``: the ops of the pinned tensorflow that have no state, which is half of the allow-list.

Run ``python -P slipway.py --module components.validate.generate_ops [--check]``. Imports tensorflow.
"""

import sys
from pathlib import Path

from tensorflow.core.framework import op_def_pb2
from tensorflow.python.client import pywrap_tf_session

TARGET = Path(__file__).with_name("stateless_ops.txt")


def collect() -> str:
    """Return the names of all registered ops that are not stateful, one a line, sorted."""
    buffer = pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList())
    ops = op_def_pb2.OpList.FromString(buffer)
    return "".join(f"{name}\n" for name in sorted(op.name for op in ops.op if not op.is_stateful))


def main() -> int:
    """Write the file, or with ``--check`` return 1 where it differs."""
    text = collect()
    if "--check" in sys.argv[1:]:
        same = TARGET.read_text() == text
        print(f"{TARGET.name}: {'up to date' if same else 'differs from the pinned package; run make generate'}")
        return 0 if same else 1
    TARGET.write_text(text)
    print(f"{TARGET.name}: {text.count(chr(10))} ops")
    return 0


if __name__ == "__main__":
    sys.exit(main())
