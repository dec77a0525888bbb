"""`honestface demo`: a photograph degraded, restored with a reference, and laid side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from PIL.Image import Image

_SHRINK, _NOISE, JPEG_QUALITY = 4, 6.0, 40


def demo(out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("demo")) -> None:
    """Degrade scikit-image's astronaut, restore her with a reference, and leave before and after in a folder.

    There is only one photograph of her, so the reference is that photograph: mirrored, cropped and lit differently.
    It shows the whole path at work; it does not show what a reference from another day can do.
    """
    from PIL import Image

    from models.errors import HonestFaceError
    from service.restore_command import restore

    try:
        from skimage.data import astronaut
    except ImportError as error:
        raise HonestFaceError("the demo needs scikit-image: pip install 'honestface[demo]'") from error

    original = Image.fromarray(astronaut())  # type: ignore[no-untyped-call]
    out.mkdir(parents=True, exist_ok=True)
    original.save(out / "original.png")
    degraded(original).save(out / "degraded.jpg", quality=JPEG_QUALITY)
    as_reference(original).save(out / "reference.png")
    restore(
        out / "degraded.jpg",
        out / "restored.png",
        reference=[out / "reference.png"],
        report=out / "report.json",
        compare=out / "before-after.png",
        device="cpu",
    )
    print(f"before and after: {out / 'before-after.png'}, with the honesty report in {out / 'report.json'}")
    print("The reference is the same photograph, mirrored, cropped and lit differently: there is only one of her.")


def degraded(photo: "Image") -> "Image":
    """As an old small file would be: shrunk, noisy, and blown up again; the JPEG comes with saving."""
    import numpy as np
    from PIL import Image

    small = photo.resize((photo.width // _SHRINK, photo.height // _SHRINK), Image.Resampling.BOX)
    noise = np.random.default_rng(0).normal(0, _NOISE, (small.height, small.width, 3))
    noisy = np.clip(np.asarray(small, np.float64) + noise, 0, 255).round().astype(np.uint8)
    return Image.fromarray(noisy).resize(photo.size, Image.Resampling.BICUBIC)


def as_reference(photo: "Image") -> "Image":
    """The photograph mirrored, cropped and in a warmer light."""
    from PIL import Image, ImageEnhance, ImageOps

    face = ImageOps.mirror(photo.crop((90, 0, 370, 300))).resize((560, 600), Image.Resampling.LANCZOS)
    warm = Image.merge(
        "RGB",
        [
            band.point([round(level * gain) for level in range(256)])
            for band, gain in zip(face.split(), (1.0, 0.93, 0.82), strict=True)
        ],
    )
    return ImageEnhance.Contrast(ImageEnhance.Brightness(warm).enhance(0.9)).enhance(1.1)
