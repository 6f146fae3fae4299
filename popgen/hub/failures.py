"""Turns the errors of the hub's client into those of popgen, which say what to do next."""

from __future__ import annotations

from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import get_session

from popgen.errors import BadInput, NotFound, Offline, PopgenError, brief
from popgen.hub.names import HubName

LOGIN = "Set HF_TOKEN to a token of yours, or run `hf auth login`; https://huggingface.co/settings/tokens makes one."
_NETWORK = ("httpx", "httpx2", "httpcore", "requests", "urllib3")  # the client's HTTP library changes with its release
_TIMEOUT = 5.0  # seconds until the hub counts as unreachable


def explained(error: Exception, name: HubName, does: str) -> PopgenError:
    """Return the error of popgen for one that the client has raised.

    Args:
        does: what was to be done with the repository: "fetched" or "written".
    """
    while isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, HfHubHTTPError):
        error = error.__cause__  # the answer that the client then hides behind the state of the cache
    repository, what = name.repository, f"{name.text} could not be {does}"
    if isinstance(error, GatedRepoError):
        todo = f"Ask for it on {constants.ENDPOINT}/{repository}, then set HF_TOKEN to a token of yours."
        return NotFound(what, f"access to {repository} is given on request", todo)
    if isinstance(error, RevisionNotFoundError):
        todo = f"{constants.ENDPOINT}/{repository}/commits/main lists its commits."
        return NotFound(what, f"{repository} has no branch, tag or commit {name.revision or 'main'!r}", todo)
    if isinstance(error, RepositoryNotFoundError):
        why = f"the hub has no repository {repository}, or it is private and your token may not read it"
        return NotFound(what, why, f"Check OWNER/NAME. {LOGIN}")
    if isinstance(error, HfHubHTTPError) and not isinstance(error, (LocalEntryNotFoundError, OfflineModeIsEnabled)):
        return _refused(error, what, repository)
    if isinstance(error, LocalTokenNotFoundError):
        return BadInput(what, "there is no token", LOGIN)
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _NETWORK:
        return Offline(what, _unreachable(error, does), _without_network(repository, does))
    return PopgenError(what, f"the client did not understand the hub: {brief(error)}", "Update huggingface_hub.")


def check_answers(what: str, repository: str, todo: str) -> None:
    """Refuse to go on while the hub does not answer one short request, where its client would retry for most of a minute.

    Args:
        what: what needs the repository, for the message: "the text encoder x".
        repository: OWNER/NAME, which is not in the hub's cache here.
        todo: the advice in the message.

    Raises:
        Offline: the hub does not answer, or HF_HUB_OFFLINE is set.
    """
    try:
        if constants.HF_HUB_OFFLINE:
            raise OSError("HF_HUB_OFFLINE is set")
        get_session().head(constants.ENDPOINT, timeout=_TIMEOUT)
    except Exception as error:  # see _NETWORK
        why = f"{repository} is not in the hub's cache here, and {constants.ENDPOINT} does not answer ({error})"
        raise Offline(f"{what} could not be fetched", why, todo) from error


def _refused(error: HfHubHTTPError, what: str, repository: str) -> PopgenError:
    """The error for an answer of the hub with a status that refuses the request."""
    response = getattr(error, "response", None)
    status = 0 if response is None else response.status_code
    said = str(getattr(error, "server_message", None) or "").strip() or brief(error)
    if status == 401:
        return BadInput(what, f"the hub does not take your token, or there is none: {said}", LOGIN)
    if status in (402, 413, 507) or "storage" in said.lower() or "quota" in said.lower():
        return BadInput(what, f"the hub has no more room for it: {said}", "Free space there, or send a smaller folder.")
    if status == 403:
        owner = repository.partition("/")[0]
        todo = f"Use a token with the right to write, of a member of {owner!r}, or another OWNER/NAME."
        return BadInput(what, f"your token may not do that: {said}", todo)
    if status == 404:
        return NotFound(what, said, "Check OWNER/NAME and the revision.")
    if status in (409, 412):
        return BadInput(what, f"somebody else writes to it, or it is another kind of repository: {said}", "Try again.")
    if status == 429:
        return Offline(what, f"the hub takes no more requests for now: {said}", "Wait some minutes and try again.")
    if status >= 500:
        return Offline(what, f"the hub answers with the error {status}: {said}", "Try again later.")
    return BadInput(what, said, "See what the hub says.")


def _unreachable(error: Exception, does: str) -> str:
    where = constants.ENDPOINT
    cached = ", and it is not complete in the hub's cache here" if does == "fetched" else ""
    if constants.HF_HUB_OFFLINE:
        return f"HF_HUB_OFFLINE is set{cached}"
    return f"{where} does not answer{cached} ({brief(error.__cause__ or error)})"


def _without_network(repository: str, does: str) -> str:
    if does == "written":
        return "Check the network, and HF_HUB_OFFLINE and HF_ENDPOINT in the environment."
    return (
        f"Where there is a network run `hf download {repository} --local-dir FOLDER`, copy the folder here and name it."
    )
