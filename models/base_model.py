"""Where the Stable Diffusion base model is: a local folder, or a hub id that the user allowed to be downloaded."""

from pathlib import Path

from models.errors import WeightsError

#: The parts of a base model that a bundle is made of; text encoder and safety checker are not fetched.
_PARTS = (
    "scheduler/scheduler_config.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
)


def locate_base_model(base: str, allow_download: bool) -> Path:
    """The local folder of `base`; a hub id is downloaded with `allow_download` only.

    Raises `WeightsError` where there is no such folder, or the download fails.
    """
    folder = Path(base).expanduser()
    if folder.is_dir():
        return folder
    if not allow_download:
        raise WeightsError(f"{base}: no such folder; if it is a hub id, --allow-download fetches it")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(base, allow_patterns=list(_PARTS)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()
        raise WeightsError(f"{base} cannot be downloaded: {reason[0] if reason else type(error).__name__}") from None
