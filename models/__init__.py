"""HonestFace's networks and the face tools around them: pure torch and numpy, no HTTP and no optimiser."""
