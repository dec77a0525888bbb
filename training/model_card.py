"""What the bundle that this project trained says of itself; docs/model_card.md says it at length."""

from models.bundle import ModelCard

LICENCE = "Apache-2.0 (weights trained by the HonestFace project)"
PROVENANCE = (
    "Trained from random weights by `honestface train` with the settings in training/configs and the detours that "
    "docs/experiments.md tells. The identity encoder learned from SFace's embeddings (OpenCV Zoo, Apache-2.0) of the "
    "training pictures, the landmark network from dlib's landmarks, and the identity loss used SFace beside the "
    "identity encoder; perceptual losses used VGG16 features. None of these teachers is part of the bundle."
)
TRAINING_DATA = (
    "Official portraits of US members of Congress and governors (federal works, public domain)",
    "Presidential Innovation Fellows website portraits (CC0 1.0)",
    "Face Research Lab London set, 3DSK and Canada sets by DeBruine & Jones (CC BY 4.0, "
    "doi 10.6084/m9.figshare.5047666.v5, OSF A3947, doi 10.6084/m9.figshare.4220517.v1)",
    "faker-js/assets-person-portrait (CC0 1.0, synthetic people)",
    "Historic portraits of members of Congress, aligned and small (public domain): face tools only",
)
CARD = ModelCard(
    intended_use="Restoring photographs of a known person with good photographs of the same person, by or for people "
    "who may use these pictures; and as the light end of the `sd21` profile in tests and development.",
    unintended_use="identifying people, for evidence, or for surveillance: a restored face is an estimate. Where the "
    "input says nothing and no reference is given, what appears is an average.",
    degradation="VQFR's two presets, a wider one, small JPEGs, photographs with little wrong and damaged prints, drawn "
    "anew each time (training/degradation.py).",
    recipe="docs/training.md; settings in training/configs.",
    limits=(
        "Mostly frontal, smiling adults; few glasses, beards and children; little variety of light. Expect worse "
        "elsewhere.",
        "From inputs of some 20 px a face is a guess, and since it now has texture it looks less like one.",
        "Of damaged prints grain and grey halftone dots go, on the face alone, so that a restored face may stand out "
        "from a grainy picture; of coloured dots a pattern stays; specks and scratches fade, and many "
        "stay.",
        "The identity encoder is small: it is good enough to gate references and to warn, not to decide who somebody "
        "is.",
        "The detector was trained on portraits put together into scenes and takes some objects for faces.",
        "A few faces that lie on their side or stand on their head are taken for upright ones.",
        "A face larger than 512 px of aligned crop is restored at 512 px; finer detail is kept where the crop's was.",
    ),
)
