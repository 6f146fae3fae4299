"""A quick check whether a model can be had from the Hugging Face hub."""

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from popgen.hub.failures import check_answers


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
    except (LocalEntryNotFoundError, HfHubHTTPError, ValueError):
        todo = (
            "Use clip-tiny and text-tiny (they ship with popgen), or where there is a network run "
            f"`hf download {repository} --local-dir FOLDER`, copy the folder and name local-dir:FOLDER."
        )
        check_answers(what, repository, todo)
