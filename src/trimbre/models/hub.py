"""Models on the Hub: their names and URLs, and the local folder that one is fetched to."""

import json
import re
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfUriError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import parse_hf_uri

from trimbre.errors import OptionError, UserError, reason
from trimbre.models.folder import ADAPTER, CONFIG, INDEX, READ, SNAPSHOTS, WEIGHTS, repository_of

NAME = re.compile(r"[\w.-]+/[\w.-]+(@.+)?", re.ASCII)
SITE = re.compile(r"(https?:/|hf:/|www\.|(huggingface\.co|hf\.co)/)", re.IGNORECASE)
"""How a URL begins, also one without its scheme."""
BESIDE = ("train.json", "prune.json")
"""Reports that Trimbre writes beside a model and reads again."""


class HubModel(NamedTuple):
    """A repository on the Hub and, where one is stated, a branch, tag or commit of it."""

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.repository if self.revision is None else f"{self.repository}@{self.revision}"


def hub_model(name: str, revision: str | None = None) -> HubModel | None:
    """The model that a name means on the Hub; None for what is no name of one.

    Args:
        name: `OWNER/NAME`, `OWNER/NAME@REVISION`, or the address of its page, of one of its revisions or files.
        revision: given apart from the name.

    Raises:
        UserError: the address is of something else, or two revisions are given.
    """
    if not (SITE.match(name) or NAME.fullmatch(name)):
        return None
    if SITE.match(name):
        repository, stated = _from_address(name)
    else:
        repository, _, stated = name.partition("@")
    if stated and revision and stated != revision:
        raise OptionError("revision", revision, f"{name} states {stated}: give one of the two")
    return HubModel(repository, revision or stated or None)


def _from_address(address: str) -> tuple[str, str]:
    """Repository and revision, where one is stated, of the address of a model's page or of a file beside its config."""
    advice = f"{address} is not the address of a model on the Hub: give OWNER/NAME, or OWNER/NAME@REVISION"
    plain = re.sub(r"^(https?|hf):/(?!/)", r"\1://", address)  # as a Path has it
    plain = re.sub(r"^(https?://)?www\.", r"\1", plain, flags=re.IGNORECASE)
    try:
        found = parse_hf_uri(plain.rstrip("/"), endpoint=constants.ENDPOINT)
    except HfUriError as error:
        raise UserError(advice) from error
    inside = Path(found.path_in_repo)
    if found.type != "model" or len(inside.parts) > 1 or (inside.parts and not inside.suffix):
        raise UserError(advice)  # also a folder within a repository
    return found.id, found.revision or ""


def name_in_cache(folder: str | Path) -> str | None:
    """The name of a model that lies in the cache of the Hub, with its commit; None for any other folder."""
    folder = Path(folder)
    repository = repository_of(folder.parent.parent) if folder.parent.name == SNAPSHOTS else None
    return None if repository is None else str(HubModel(repository, folder.name))


def fetch(model: HubModel, *, weights: bool = True) -> Path:
    """Fetch what loading reads of a model, or find it in the cache; returns the folder of that revision.

    Args:
        weights: also its weights, which are most of it.

    Raises:
        UserError: it is not there, access is not granted, or the Hub cannot be reached.
    """
    try:
        wanted = [*READ, *BESIDE, INDEX, ADAPTER, *([WEIGHTS] if weights else ())]
        folder = Path(snapshot_download(model.repository, revision=model.revision, allow_patterns=wanted))
        if not folder.is_dir():
            raise UserError(f"{model} on the Hub holds no model: it has no config.json")
        for file in _lacking_weights(folder) if weights else ():
            hf_hub_download(model.repository, file, revision=folder.name)
    except UserError:
        raise
    except Exception as error:  # of the network there are as many as of libraries
        raise UserError(_said(model, error)) from error
    return folder


def _lacking_weights(folder: Path) -> list[str]:
    """Names of the files of weights that loading reads and that are not there: of shards those that the index names."""
    if not (folder / CONFIG).is_file() or (folder / ADAPTER).is_file():
        return []  # loading says what it is
    if (folder / WEIGHTS).is_file():
        return []  # which come before shards
    if not (folder / INDEX).is_file():
        return [WEIGHTS]
    return sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))


def _said(model: HubModel, error: Exception) -> str:
    """Why a model could not be fetched, in a sentence."""
    if isinstance(error, LocalEntryNotFoundError):
        why = "it is offline (HF_HUB_OFFLINE)" if constants.is_offline_mode() else "check the network"
        return f"{model} is no directory here and not in the cache of the Hub, which cannot be reached: {why}"
    if isinstance(error, RevisionNotFoundError):
        return f"{model.repository} on the Hub has no revision {model.revision}: name a branch, tag or commit of it"
    if isinstance(error, GatedRepoError):
        return f"{model} on the Hub is gated: ask for access on its page, then log in (hf auth login)"
    if isinstance(error, RepositoryNotFoundError):
        return f"{model} is no directory here and no model on the Hub: correct it, or log in for one that is private"
    if isinstance(error, EntryNotFoundError):
        return (
            f"{model} on the Hub has no weights in safetensors: name the revision that holds converted ones, such as "
            f"{model.repository}@refs/pr/1, or convert it where you trust it"
        )
    return f"cannot fetch {model}, which is no directory here, from the Hub: {reason(error)[:300]}"
