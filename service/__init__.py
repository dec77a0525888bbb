"""HTTP around `models.FaceRestorer`: admission, micro-batching, metrics, the playground, and the commands."""
