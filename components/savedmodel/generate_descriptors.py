"""Write ``descriptors.binpb``: the messages of TensorFlow and TensorFlow Serving that Slipway reads and writes.

The descriptors are taken from the pinned tensorflow and tensorflow-serving-api packages, never typed by hand, and kept
as one ``FileDescriptorSet``, so that reading a SavedModel or asking a server needs neither package at run time.

Run ``python -P slipway.py --module components.savedmodel.generate_descriptors [--check]``.
"""

import sys
from importlib import import_module
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor

TARGET = Path(__file__).with_name("descriptors.binpb")

SOURCES = (
    "tensorflow.core.protobuf.saved_model_pb2",
    "tensorflow.core.protobuf.saved_object_graph_pb2",
    "tensorflow.core.protobuf.fingerprint_pb2",
    "tensorflow.core.protobuf.tensor_bundle_pb2",
    "tensorflow.core.example.example_pb2",
    "tensorflow_serving.apis.predict_pb2",
    "tensorflow_serving.apis.classification_pb2",
    "tensorflow_serving.apis.regression_pb2",
    "tensorflow_serving.apis.inference_pb2",
    "tensorflow_serving.apis.get_model_metadata_pb2",
    "tensorflow_serving.apis.get_model_status_pb2",
    "tensorflow_serving.apis.model_management_pb2",
    "tensorflow_serving.apis.prediction_log_pb2",
    "tensorflow_serving.config.model_server_config_pb2",
)


def collect() -> bytes:
    """Return the serialized ``FileDescriptorSet``: every source file after the files it imports."""
    found = descriptor_pb2.FileDescriptorSet()
    seen: set[str] = set()

    def add(file: FileDescriptor) -> None:
        if file.name in seen:
            return
        seen.add(file.name)
        for dependency in file.dependencies:
            add(dependency)
        file.CopyToProto(found.file.add())

    for name in SOURCES:
        add(import_module(name).DESCRIPTOR)
    return found.SerializeToString(deterministic=True)


def main() -> int:
    """Write the file, or with ``--check`` return 1 where it differs."""
    data = collect()
    if "--check" in sys.argv[1:]:
        same = TARGET.read_bytes() == data
        print(f"{TARGET.name}: {'up to date' if same else 'differs from the pinned packages; run make generate'}")
        return 0 if same else 1
    TARGET.write_bytes(data)
    print(f"{TARGET.name}: {len(data)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
