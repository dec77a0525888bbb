"""What can go wrong because of what a user gave; every message is one clear line."""


class HonestFaceError(Exception):
    """Base of every error that a caller can cause and act on."""


class PictureError(HonestFaceError):
    """A picture that cannot be read: not an image, truncated, too large, of zero bytes."""


class NoFaceError(HonestFaceError):
    """A picture in which no face was found."""


class GeometryError(HonestFaceError):
    """Points that define no transform: too few, collinear or not finite."""


class BundleError(HonestFaceError):
    """A bundle that is missing, truncated, tampered with or of another version."""


class WeightsError(HonestFaceError):
    """A weight file whose keys or shapes do not fit the network; the message names them."""


class ReferencesError(HonestFaceError):
    """References for a model that was built without an identity embedder."""


class TooReducedError(HonestFaceError):
    """A picture that was read reduced has to be read in full: its face is too small, or none was found."""
