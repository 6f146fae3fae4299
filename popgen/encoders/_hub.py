"""Asks in one short request whether the hub answers, where the hub client itself would retry for most of a minute."""

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from huggingface_hub.utils import get_session

from popgen.errors import Offline

PATIENCE = 5.0  # seconds


def check_reachable(what: str, repository: str) -> None:
    """Return when `repository` (OWNER/NAME) is in the hub's local cache, or the hub answers at all.

    Raises:
        Offline: neither.
    """
    try:
        snapshot_download(repository, local_files_only=True)
        return
    except (LocalEntryNotFoundError, HfHubHTTPError, ValueError):
        pass
    try:
        if constants.HF_HUB_OFFLINE:
            raise OSError("HF_HUB_OFFLINE is set")
        get_session().head(constants.ENDPOINT, timeout=PATIENCE)
    except Exception as error:  # requests, httpx or httpx2, by the hub client's release, each with errors of its own
        raise Offline(
            f"{what} could not be fetched",
            f"{repository} is not in the hub's cache here, and {constants.ENDPOINT} does not answer ({error})",
            "Use clip-tiny and text-tiny (they ship with popgen), or where there is a network run "
            f"`hf download {repository} --local-dir FOLDER`, copy the folder and name local-dir:FOLDER.",
        ) from error
