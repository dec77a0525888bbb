"""The photograph that the checks send: scikit-image's astronaut as an old small file would be."""

import io


def degraded_photo() -> bytes:
    """A JPEG of 512 x 512 pixels with one face, a quarter as sharp as it was."""
    from PIL import Image
    from skimage.data import astronaut

    photo = Image.fromarray(astronaut())
    small = photo.resize((photo.width // 4, photo.height // 4), Image.Resampling.BOX)
    out = io.BytesIO()
    small.resize(photo.size, Image.Resampling.BICUBIC).save(out, "JPEG", quality=40)
    return out.getvalue()
