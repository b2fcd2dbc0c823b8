"""The decision API as a process."""

import argparse
import ipaddress
import sys
from collections.abc import Sequence

import uvicorn

from lakehouse import jobs, topics
from lakehouse import settings as conf
from lakehouse.agreement import agreed
from lakehouse.errors import SettingsError
from lakehouse.latency import prepare_for_latency
from lakehouse.log import configure, logger
from lakehouse.runs import recorded
from lakehouse.settings import Settings
from serving.app import create_app
from serving.feed import Cut


def main(argv: Sequence[str]) -> int:
    """Serve until asked to stop (SIGTERM or Ctrl-C)."""
    parser = argparse.ArgumentParser(prog="python -m serving.job", description=__doc__)
    parser.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    arguments = parser.parse_args(argv)

    def work() -> None:
        settings = conf.load(arguments.env)
        configure(settings, "api")
        agreed(settings, or_cached=True)
        with recorded(settings, "serving.job"):
            _serve(settings)

    return jobs.guarded(work)


def _serve(settings: Settings) -> None:
    try:
        loopback = ipaddress.ip_address(settings.api.host).is_loopback
    except ValueError:
        raise SettingsError(f"api.host {settings.api.host} is not an IP address.", "Such as 127.0.0.1.") from None
    # Everything that can be wrong at the start is one sentence, before the port is opened.
    topics.identify(settings, topics.EVENTS)
    topics.identify(settings, topics.DECISIONS)
    app = create_app(settings)
    if not loopback:
        logger("api").warning("the API listens beyond loopback: put TLS in front of it", host=settings.api.host)
    prepare_for_latency()
    uvicorn.run(
        app,
        host=settings.api.host,
        port=settings.api.port,
        log_level=settings.log.level,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws=Cut,
        # The feed takes no messages; its own are small and many.
        ws_max_size=1024,
        ws_per_message_deflate=False,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
