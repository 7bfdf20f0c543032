"""Pure rendering of Kubernetes objects. Imports nothing of ours."""
