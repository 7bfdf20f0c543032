"""Clients of TensorFlow Serving's two protocols: NumPy in, NumPy out, without tensorflow.

Both have the same methods, so that whoever measures or asks does not care which one it holds. A request may be prepared
once and sent many times, which is what a replay needs: encoding and decoding then stay outside of what is timed.
Proxies from the environment are never used: a server's address is taken at its word.
"""

from components.serving.calls import DEFAULT_TIMEOUT_S, CallFailed, Prepared, ServingClient
from components.serving.grpc_client import GrpcClient
from components.serving.requests import VersionStatus
from components.serving.rest_client import RestClient

__all__ = [
    "DEFAULT_TIMEOUT_S",
    "CallFailed",
    "GrpcClient",
    "Prepared",
    "RestClient",
    "ServingClient",
    "VersionStatus",
]
