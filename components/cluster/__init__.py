"""EDGE: where servers run: this machine, or Kubernetes."""
