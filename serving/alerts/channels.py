"""Channels: where their targets come from, and how each kind is told.

The target of channel `night-desk` is the variable FRAUDLAKE_ALERT_NIGHT_DESK, else the file `alert-night-desk.target`
of the keys folder, which only its owner may read. Of a webhook it is the URL and the secret, with white space between;
of the others a URL of apprise. A target is read when something is to be delivered, so a new one needs no restart, and
no error says a word of it.
"""

import logging
import os
from typing import Any

from lakehouse.alert_settings import Alerts, Channel
from lakehouse.errors import KeysMissing
from lakehouse.passwords import secret_of
from lakehouse.settings import Settings, resolve
from serving.alerts.content import Content
from serving.alerts.webhooks import SECRET_CHARACTERS, NotDelivered, Webhook

VARIABLE = "FRAUDLAKE_ALERT_"
SCHEMES = {
    "slack": ("slack",),
    "email": ("mailto", "mailtos"),
    "pagerduty": ("pagerduty",),
    "sms": ("twilio", "sns", "vonage", "messagebird", "plivo", "sinch"),
}
"""Of each kind: apprise has generic ones too, which would go anywhere, unsigned."""


def target(settings: Settings, name: str) -> str:
    """The target of a channel; KeysMissing where there is none."""
    given = os.environ.get(VARIABLE + name.upper().replace("-", "_"))
    if given:
        return given.strip()
    path = resolve(settings.keys.folder) / f"alert-{name}.target"
    return secret_of(
        path, f"Write the target of channel {name} there, or into {VARIABLE}{name.upper().replace('-', '_')}."
    )


class Sender:
    """Delivers a message over its channel."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._at: Alerts = settings.alerts

    def send(self, name: str, content: Content, timestamp: int) -> None:
        """Deliver, or raise NotDelivered with a reason that is safe to store; `timestamp` in seconds."""
        channel = self._at.channel(name)
        if channel is None:
            raise NotDelivered("there is no such channel any more")
        try:
            given = target(self._settings, name)
        except KeysMissing as error:
            raise NotDelivered(str(error)) from None
        if channel.kind == "webhook":
            self.webhook(given).post(content.message_id, timestamp, content.body())
        else:
            _by_apprise(channel, given, content, self._at.timeout_s)

    def webhook(self, given: str) -> Webhook:
        """The receiver of a target."""
        parts = given.split()
        if len(parts) != 2 or len(parts[1]) < SECRET_CHARACTERS:
            raise NotDelivered(f"the target is not a URL and a secret of {SECRET_CHARACTERS} characters or more")
        return Webhook(parts[0], parts[1], self._at.allow_private, self._at.timeout_s)


def _by_apprise(channel: Channel, given: str, content: Content, timeout_s: float) -> None:
    if given.partition("://")[0].lower() not in SCHEMES[channel.kind]:
        raise NotDelivered(
            f"the target of a {channel.kind} channel begins with {' or '.join(SCHEMES[channel.kind])}://"
        )
    try:
        receiver = _receiver(given, timeout_s)
        done = receiver is not None and receiver.notify(body=content.text(), title=content.title())
    except Exception as error:
        # Its text may be of the target.
        raise NotDelivered(type(error).__name__) from None
    if receiver is None:
        raise NotDelivered(f"apprise does not take the target as one of {channel.kind}")
    if not done:
        raise NotDelivered("not taken by the other side, or no answer")


def _receiver(given: str, timeout_s: float) -> Any:
    # Loaded by whoever delivers: the API does not.
    import apprise

    for name in ("apprise", "urllib3"):
        # They tell of targets, and nothing above them is silenced by that.
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    asset = apprise.AppriseAsset(app_id="fraudlake", app_desc="fraudlake", app_url="", async_mode=False)
    receiver = apprise.Apprise.instantiate(given, asset=asset, suppress_exceptions=True)
    if receiver is not None:
        receiver.socket_connect_timeout = receiver.socket_read_timeout = timeout_s
        receiver.redirects, receiver.verify_certificate = False, True
    return receiver
