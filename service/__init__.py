"""HTTP around `models.face_restorer.FaceRestorer`: admission, micro-batching, metrics, playground, and the commands."""
