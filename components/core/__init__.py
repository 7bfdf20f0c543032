"""Types and pure functions every step shares; nothing here knows TensorFlow, a store or a cluster."""
