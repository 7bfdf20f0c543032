"""EDGE: TensorFlow's file format."""
