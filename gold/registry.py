"""Which bundle the registry calls its champion, asked over MLflow's REST interface."""

import http.client
import urllib.parse

import orjson

from decisions.bundle import CHAMPION, DIGEST_TAG
from lakehouse.errors import RegistryUnavailable
from lakehouse.settings import Settings

TIMEOUT_S = 10


def champion_digest(settings: Settings) -> str | None:
    """Digest of the champion's bundle; None before there is one. RegistryUnavailable when nobody answers."""
    where = urllib.parse.urlsplit(settings.models.registry_uri)
    query = urllib.parse.urlencode({"name": settings.models.name, "alias": CHAMPION})
    kind = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
    connection = kind(where.hostname or "", where.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", f"/api/2.0/mlflow/registered-models/alias?{query}")
        answer = connection.getresponse()
        body = answer.read()
    except OSError as error:
        raise RegistryUnavailable(
            f"The MLflow server at {settings.models.registry_uri} does not answer ({type(error).__name__}).",
            "`make up` starts the local one, `make status` shows it.",
        ) from None
    finally:
        connection.close()
    if answer.status != 200:
        return None
    tags = orjson.loads(body)["model_version"].get("tags", [])
    return next((str(tag["value"]) for tag in tags if tag["key"] == DIGEST_TAG), None)
