"""What tests of a schema registry over HTTP share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lakehouse import settings as conf
from lakehouse.confluent import SchemaRegistry
from lakehouse.settings import Settings
from tests.lakehouse.confluent import Configured, Server, serving


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


@pytest.fixture
def configured(server: Server, tmp_path: Path) -> Configured:
    """Settings in which this registry is the one, with some of them changed."""

    def made(**changes: Any) -> Settings:
        base = conf.load()
        given = {
            "registry": "http",
            "url": server.url,
            "timeout_s": 1,
            "attempts": 2,
            "cache_folder": tmp_path / "cache",
            **changes,
        }
        return base.model_copy(update={"schemas": base.schemas.model_copy(update=given)})

    return made


@pytest.fixture
def client(configured: Configured) -> SchemaRegistry:
    return SchemaRegistry(configured().schemas)
