"""What the routes of alerts and verification work on: the outbox, asked in threads of its own."""

from fastapi import Request

from lakehouse import keys
from lakehouse.settings import Settings
from serving.alerts.database import opened
from serving.alerts.filling import FAILURES
from serving.alerts.outbox import Outbox
from serving.alerts.verifications import Verifications
from serving.in_time import InTime

READERS = 4


class Desk:
    """Alerts and requests of one replica."""

    def __init__(self, settings: Settings) -> None:
        self.asking = settings.alerts.verification
        self.source = keys.source(settings)
        self._database = opened(settings)
        self.outbox = Outbox(self._database)
        self.requests = Verifications(self._database, self.asking.tries)
        timeout_s = settings.decision_store.read_timeout_ms / 1000
        self._in_time = InTime(READERS, "outbox", timeout_s, "The outbox does not answer", FAILURES)
        self.asked = self._in_time.asked

    def close(self) -> None:
        """Let go of threads and outbox."""
        self._in_time.close()
        self._database.close()


def desk(request: Request) -> Desk:
    """The desk of a request's app."""
    found: Desk = request.app.state.desk
    return found
