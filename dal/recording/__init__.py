"""What a run leaves for people to see: log, status, metrics, curves, TensorBoard."""
