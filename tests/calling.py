"""Asking the API as a stranger would."""

import http.client
import json
from datetime import UTC, datetime

from lakehouse import settings as conf


def call(settings, method, path, body=None, key="local"):
    """(status, answer) of a request to the API of these settings, with one of their keys or none."""
    text = (conf.resolve(settings.keys.folder) / f"api-{key}.key").read_text() if key else ""
    connection = http.client.HTTPConnection("127.0.0.1", settings.api.port, timeout=15)
    headers = {"Content-Type": "application/json", **({"X-API-Key": text} if text else {})}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    raw = answer.read()
    connection.close()
    return answer.status, json.loads(raw) if raw else None


def payment(name, **changes):
    """A payment of now, as a request."""
    return {
        "transaction_id": name,
        "event_time": datetime.now(UTC).isoformat(),
        "card_number": "4000000000000002",
        "customer_id": "somebody",
        "merchant_id": "a-shop",
        "amount_minor": 1999,
        "currency": "EUR",
        "channel": "ecom",
        "device_id": "a-device",
        **changes,
    }
