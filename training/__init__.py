"""Offline training: data, degradation, losses, stages, trainer and evaluation; knows nothing of the service."""
