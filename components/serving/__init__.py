"""EDGE: the TensorFlow Serving protocol, client and embedded server."""
