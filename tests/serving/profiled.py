"""Decided payments for the tests of profiles, and a Redis of a test's own."""

import os
import time
from contextlib import contextmanager

import numpy as np

from deploy.local import job as services
from deploy.local import redis
from deploy.local.apart import free_ports
from deploy.local.process import Service
from features.catalogue import NAMES, feature_set_hash
from serving.profiles import payment_of
from tests.lakehouse.records import record

CARD, CUSTOMER, DEVICE, IP = (f"v1:{kind}-token" for kind in ("card", "customer", "device", "ip"))


def vector(**values):
    """A vector in which these features have values and all others are unknown."""
    out = np.full(len(NAMES), np.nan, "<f4")
    for name, value in values.items():
        out[NAMES.index(name)] = value
    return out.tobytes()


def fields(offset=7, ago_s=0.0, values=None, **changes):
    """The fields of a decision that was made so many seconds ago."""
    return {
        "transaction_id": f"t{offset}",
        "offset": offset,
        "card_token": CARD,
        "customer_token": CUSTOMER,
        "device_token": DEVICE,
        "ip_token": IP,
        "decided_at": int((time.time() - ago_s) * 1000),
        "feature_set": feature_set_hash(),
        "vector": vector(**(values or {"card_tx_count_1h": 3, "merchant_tx_count_1h": 40})),
        **changes,
    }


def decision(offset=7, ago_s=0.0, values=None, **changes):
    """A whole decision as its reader sees it."""
    return record("decision", **fields(offset, ago_s, values, **changes))


def payment(offset=7, ago_s=0.0, values=None, **changes):
    """The payment of such a decision."""
    return payment_of(decision(offset, ago_s, values, **changes))


def with_profiles(settings, **changes):
    """Settings with other settings of profiles."""
    return settings.model_copy(update={"profiles": settings.profiles.model_copy(update=changes)})


@contextmanager
def own_redis(settings, folder):
    """(settings, server) of a Redis that runs in a folder of its own and may be ended and started again."""
    (port,) = free_ports(1)
    apart = with_profiles(settings, store="redis").model_copy(
        update={
            "state_dir": folder,
            "redis": settings.redis.model_copy(update={"port": port, "password_file": folder / "redis.key"}),
        }
    )
    try:
        yield apart, Server(apart)
    finally:
        Server(apart).stop()


class Server:
    """A Redis that a test starts and ends."""

    def __init__(self, settings):
        self.settings = settings
        self.service = Service(redis.NAME, services.services_folder(settings))

    def start(self):
        """Start it and wait until it answers."""
        services.up(self.settings, (redis,))

    def stop(self):
        """End it."""
        self.service.stop()


def variables(settings):
    """The environment in which a process sees the Redis of these settings."""
    return {
        **os.environ,
        "FRAUDLAKE__PROFILES__STORE": settings.profiles.store,
        "FRAUDLAKE__REDIS__PORT": str(settings.redis.port),
        "FRAUDLAKE__REDIS__PASSWORD_FILE": str(settings.redis.password_file),
    }
