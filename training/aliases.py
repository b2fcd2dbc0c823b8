"""Aliases and tags of the registry's versions, as far as promotion needs them; bytes are never taken from there."""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from decisions.bundle import CHAMPION, DIGEST_TAG
from lakehouse.errors import RegistryUnavailable
from lakehouse.settings import Settings

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

REFUSED = "refused"
"""Tag of a version that somebody made champion and that was not put into force: why."""

Found = TypeVar("Found")


_MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What MLflow answers when it has no such model or alias."""


class Aliased(NamedTuple):
    """A version of the registry."""

    version: str
    digest: str | None
    """Of its bundle; None for one that names none."""


class Aliases:
    """The registry of one model; RegistryUnavailable where it does not answer, or not in time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._name, self._uri = settings.models.name, settings.models.registry_uri

    @cached_property
    def _client(self) -> "MlflowClient":
        from training import registry  # MLflow takes seconds to load, and who only goes back does not wait for it

        return registry.client(self._settings)

    def _asked(self, work: "Callable[[MlflowClient], Found]") -> Found | None:
        """What the registry answers; None where it answers that it has not got it."""
        client = self._client
        from mlflow.exceptions import MlflowException

        try:
            return work(client)
        except MlflowException as error:
            if error.error_code in _MISSING:
                return None
            raise RegistryUnavailable(
                f"The MLflow server at {self._uri} does not answer ({type(error).__name__}).",
                "`make up` starts the local one, `make status` shows it.",
            ) from None

    def champion(self) -> Aliased | None:
        """The version that the alias `champion` points to; None where there is none."""
        return self.named(CHAMPION)

    def named(self, name: str) -> Aliased | None:
        """The version of a number, or the one that an alias points to; None where there is none."""
        if name.isdecimal():
            found = self._asked(lambda asked: asked.get_model_version(self._name, name))
        else:
            found = self._asked(lambda asked: asked.get_model_version_by_alias(self._name, name))
        return None if found is None else Aliased(str(found.version), found.tags.get(DIGEST_TAG))

    def version_of(self, digest: str) -> str | None:
        """The newest version that names a bundle."""
        query = f"name = '{self._name}' and tags.{DIGEST_TAG} = '{digest}'"
        found = self._asked(lambda asked: asked.search_model_versions(query)) or ()
        return max((str(one.version) for one in found), key=int, default=None)

    def make_champion(self, digest: str) -> None:
        """Point the alias `champion` to the version of a bundle, where it has one."""
        version = self.version_of(digest)
        if version is not None:
            self._asked(lambda asked: asked.set_registered_model_alias(self._name, CHAMPION, version))

    def tag(self, version: str, key: str, value: str | None) -> None:
        """Set a tag of a version, or take it away; nothing where the version is gone."""
        if value is not None:
            self._asked(lambda asked: asked.set_model_version_tag(self._name, version, key, value))
            return
        found = self._asked(lambda asked: asked.get_model_version(self._name, version))
        if found is not None and key in found.tags:
            self._asked(lambda asked: asked.delete_model_version_tag(self._name, version, key))
