"""A quick check whether a model can be had from the Hugging Face hub.

It sends one short request, where the hub client itself would retry for most of a minute.
"""

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from huggingface_hub.utils import get_session

from popgen.errors import Offline

_TIMEOUT = 5.0  # seconds until the hub counts as unreachable


def check_reachable(what: str, repository: str) -> None:
    """Refuse a repository that is not in the hub's local cache while the hub does not answer.

    Whether the hub has the repository is not checked.

    Args:
        what: what needs the repository, for the message.
        repository: OWNER/NAME.

    Raises:
        Offline: the repository is not in the cache, and the hub does not answer.
    """
    try:
        snapshot_download(repository, local_files_only=True)
        return
    except (LocalEntryNotFoundError, HfHubHTTPError, ValueError):
        pass
    try:
        if constants.HF_HUB_OFFLINE:
            raise OSError("HF_HUB_OFFLINE is set")
        get_session().head(constants.ENDPOINT, timeout=_TIMEOUT)
    except Exception as error:  # the hub client uses requests, httpx or httpx2 by its release, each with its own errors
        raise Offline(
            f"{what} could not be fetched",
            f"{repository} is not in the hub's cache here, and {constants.ENDPOINT} does not answer ({error})",
            "Use clip-tiny and text-tiny (they ship with popgen), or where there is a network run "
            f"`hf download {repository} --local-dir FOLDER`, copy the folder and name local-dir:FOLDER.",
        ) from error
