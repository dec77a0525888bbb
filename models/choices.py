"""What can be chosen, by name; without any import that would slow down `honestface --help`."""

from typing import Literal

Faces = Literal["largest", "all", "aligned"]
ColourFix = Literal["none", "wavelet", "adain"]
Diagnostics = Literal["none", "summary", "full"]
PictureFormat = Literal["png", "jpeg", "webp"]
Precision = Literal["auto", "float32", "bfloat16", "float16", "int8"]
Library = Literal["auto", "torch", "openvino"]
ProfileName = Literal["tiny", "sd21"]
#: Upscale factors go from 1 to this.
LARGEST_UPSCALE = 4
