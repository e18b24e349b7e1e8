"""Models that SMP's save_pretrained has put on Hugging Face's hub, such as smp-hub/segformer-b0-1024x1024-city-160k."""

from huggingface_hub import snapshot_download

from densedist.common.errors import UserError, one_line

# All that SMP needs; a pickle beside them is neither fetched nor read.
FILES = ("config.json", "model.safetensors")


def fetch(name: str, key: str) -> str:
    """The folder in Hugging Face's cache that holds the model "owner/name"; what is there already is not fetched.

    Args:
        key: what names it, for messages.

    Raises:
        UserError: there is no such model, or no network.
    """
    try:
        return snapshot_download(name, allow_patterns=list(FILES))
    except Exception as error:
        raise UserError(
            f"{key}: there is no file or folder {name}, and Hugging Face's hub does not give it: {one_line(error)}; "
            "without a network copy Hugging Face's cache here, or name a folder of SMP's save_pretrained"
        ) from error
