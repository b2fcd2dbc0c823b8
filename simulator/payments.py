"""Intents -> payment records: every field filled, or left empty, as reality would; the same rules for everybody."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lakehouse.codec import Batch
from lakehouse.texts import Flags, Ints, Texts
from simulator import categories, devices, intents, places
from simulator.ids import Ids
from simulator.intents import ATM, CHANNELS, CHIP, ECOM, ENTRIES, MOTO, POS, STORED, USUAL, WALLET, Intents
from simulator.options import DAY_MS
from simulator.randomness import Doubles, generator, key_of, unit
from simulator.scene import Scene

LATE_SHARE = 0.003
"""Payments that arrive minutes to hours late: shops without a line, queues after an outage."""
LATE_MIN_MS, LATE_MAX_MS = 2 * 60_000, 6 * 3_600_000
ROW_BITS = 32
"""A transaction's index is (day << ROW_BITS | row of the day)."""

CVV_RESULTS = ("M", "N", "P", "U")
AVS_RESULTS = ("Y", "A", "Z", "N", "U")
THREE_DS_RESULTS = ("Y", "A", "N")  # EMV 3-D Secure, transaction status: authenticated, attempted, not authenticated
# (holder, stranger): who knows the card by heart passes more checks, but a thief who bought "fullz" passes most, too.
_CVV = ((0.925, 0.02, 0.025, 0.03), (0.86, 0.055, 0.035, 0.05))
_AVS = ((0.8, 0.06, 0.06, 0.04, 0.04), (0.68, 0.08, 0.09, 0.08, 0.07))
_THREE_DS = ((0.82, 0.16, 0.02), (0.74, 0.215, 0.045))
_WRONG_PINS = ((0.965, 0.028, 0.007), (0.92, 0.06, 0.02))

_WORDS = {
    "channel": Texts.of(CHANNELS),
    "entry_mode": Texts.of(ENTRIES),
    "merchant_category_code": Texts.of(categories.CODES),
    "currency": Texts.of(places.CURRENCIES),
    "country": Texts.of(places.COUNTRIES),
    "language": Texts.of(places.LANGUAGES),
    "device_os": Texts.of(devices.SYSTEMS),
    "browser": Texts.of(devices.BROWSERS),
    "screen": Texts.of(devices.SCREENS),
    "cvv_result": Texts.of(CVV_RESULTS),
    "avs_result": Texts.of(AVS_RESULTS),
    "three_ds_result": Texts.of(THREE_DS_RESULTS),
}

Columns = dict[str, Any]


@dataclass(frozen=True)
class Payments:
    """One day's payments in order of event time: what was meant, and what is written."""

    meant: Intents
    index: Ints
    """Running index of the transaction: (day << 32 | row)."""
    received_ms: Ints
    refused: Ints
    """The issuer's reason, an index into intents.REFUSALS; 0: approved."""
    batch: Batch

    def __len__(self) -> int:
        return len(self.index)


def _one_of(rng: np.random.Generator, shares: tuple[tuple[float, ...], ...], stranger: Flags) -> Ints:
    u = rng.random(len(stranger))
    cumulative = np.cumsum(shares, axis=1)[:, :-1]
    which: Ints = (u[:, None] >= cumulative[stranger.astype(np.int64)]).sum(axis=1)
    return which


def _amounts(scene: Scene, meant: Intents, u: Doubles) -> tuple[Ints, Ints]:
    # (minor units, currency) after the merchant's style of pricing.
    merchants = scene.merchants
    currency = places.CURRENCY_OF[merchants.country[meant.merchant]]
    value = meant.euros * places.PER_EURO[currency]
    style = categories.STYLE[merchants.category[meant.merchant]]
    note = places.BANKNOTE[currency]
    # A "ten" is ten cents where ten euros is a banknote; all steps grow with the currency's banknotes.
    tenth = note / 100
    step = np.select([style == 1, style == 3, style == 4], [tenth, note / 2, note], 0.0)
    rounded = np.maximum(np.round(value / np.maximum(step, 1e-9)), 1) * step
    whole = np.floor(value / (note / 10)) * (note / 10)
    ninety = np.where((style == 2) & (u < 0.7), np.maximum(whole, note / 10) - tenth / 10, value)
    # Round sums are a habit, not a rule; banknotes are the machine's.
    final = np.where((step > 0) & ((style == 4) | (u < 0.8)), rounded, ninety)
    minor = np.round(final * places.MINOR_UNITS[currency]).astype(np.int64)
    return np.maximum(minor, places.MINOR_UNITS[currency] // 4 + 1), currency


def _entries(rng: np.random.Generator, meant: Intents) -> Ints:
    u = rng.random(len(meant))
    by_channel = np.select(
        [meant.channel == POS, meant.channel == ATM, meant.channel == ECOM, meant.channel == WALLET],
        [
            np.select([u < 0.6, u < 0.92, u < 0.96], [1, 0, 2], 3),
            np.select([u < 0.93, u < 0.97], [0, 1], 2),
            np.where(u < np.where(meant.familiar, 0.72, 0.22), STORED, 3),
            np.full(len(meant), 1),
        ],
        3,
    )
    return np.where(meant.entry == USUAL, by_channel, meant.entry)


def _place(scene: Scene, meant: Intents, terminal: Ints) -> tuple[Columns, dict[str, Flags]]:
    # Where the payment was made: the terminal's place, or online where the network address is believed to be.
    merchants = scene.merchants
    key = merchants.place_key
    north, east = places.Spread(0.06).around(merchants.city[meant.merchant], meant.merchant, key)
    net_north, net_east = places.Spread(0.1).around(meant.network_city, np.maximum(meant.network, 0), key ^ 16)
    online = meant.channel == ECOM
    located = online & (meant.network >= 0) & (unit(meant.merchant, key ^ 32) < 0.65)
    present = (meant.channel == POS) | (meant.channel == ATM) | (meant.channel == WALLET)
    where = located | present
    # Terminals of one shop stand a few metres apart.
    step = (terminal % 7) * 0.00005
    columns = {"latitude": np.where(online, net_north, north + step), "longitude": np.where(online, net_east, east)}
    return columns, {"latitude": where, "longitude": where}


def _contact(scene: Scene, rng: np.random.Generator, meant: Intents, goods: Flags) -> tuple[Columns, dict[str, Flags]]:
    people, book = scene.population, scene.contacts
    n = len(meant)
    remote = (meant.channel == ECOM) | (meant.channel == MOTO)
    own = meant.customer * 2 + (meant.at_ms >= people.email_changes_ms[meant.customer])
    email = np.where(meant.email == USUAL, own, meant.email)
    household = people.household[meant.customer]
    home = household * 2 + people.moved(household, meant.at_ms)
    # Three in twenty parcels go to somebody else: a gift, the office, a pick-up point.
    elsewhere = np.where(
        rng.random(n) < 0.5,
        rng.integers(0, len(book.addresses), n),
        book.own_addresses + meant.customer * 31 % (len(book.addresses) - book.own_addresses),
    )
    parcel = np.where(rng.random(n) < 0.15, elsewhere, home)
    shipping = np.where(meant.shipping == USUAL, parcel, meant.shipping)
    billed = remote & (rng.random(n) < np.where(meant.channel == ECOM, 0.9, 0.7))
    shipped = (meant.channel == ECOM) & goods & ~meant.recurring
    columns = {
        "customer_email": book.emails.take(email),
        "billing_address": book.addresses.take(home),
        "shipping_address": book.addresses.take(shipping),
        "billing_country": _WORDS["country"].take(places.COUNTRY[book.address_city[home]]),
        "shipping_country": _WORDS["country"].take(places.COUNTRY[book.address_city[shipping]]),
    }
    valid = {
        "customer_email": remote & (rng.random(n) < np.where(meant.channel == ECOM, 0.94, 0.5)),
        "billing_address": billed,
        "shipping_address": shipped,
        "billing_country": billed,
        "shipping_country": shipped,
    }
    return columns, valid


def _device(scene: Scene, ids: Ids, meant: Intents) -> tuple[Columns, dict[str, Flags]]:
    people, machines = scene.population, scene.devices
    has, connected = meant.device >= 0, meant.network >= 0
    system, browser, screen = machines.look(meant.device)
    owner = np.where(meant.owner == USUAL, meant.customer, meant.owner)
    odd = unit(meant.device, key_of(ids.seed, "odd devices"))
    rare = unit(meant.device, key_of(ids.seed, "rooted devices"))
    offset = places.offset_min(int(meant.at_ms[0]))[meant.city] if len(meant) else np.zeros(0, np.int64)
    in_browser = has & (meant.channel == ECOM)
    columns = {
        "device_id": ids.texts("device", meant.device),
        "device_os": _WORDS["device_os"].take(system),
        "browser": _WORDS["browser"].take(browser),
        "screen": _WORDS["screen"].take(screen),
        "language": _WORDS["language"].take(people.language[owner]),
        "timezone_offset_min": offset,
        # Automated test phones and hobbyists exist; one device in two hundred is emulated, one in forty rooted.
        "device_is_emulator": odd < np.where(meant.tampered, 0.12, 0.005),
        "device_is_rooted": (rare < np.where(meant.tampered, 0.15, 0.025)) & devices.is_handheld(meant.device),
        "ip_address": ids.networks(meant.network, machines),
        "ip_country": _WORDS["country"].take(places.COUNTRY[meant.network_city]),
        "ip_is_proxy": machines.is_known_proxy(meant.network),
    }
    valid = dict.fromkeys(columns, has) | dict.fromkeys(("ip_address", "ip_country", "ip_is_proxy"), connected)
    return columns, valid | {"browser": in_browser, "screen": in_browser}


def _checks(
    rng: np.random.Generator, scene: Scene, meant: Intents, entry: Ints, euros: Doubles
) -> tuple[Columns, dict[str, Flags], Ints]:
    n, stranger = len(meant), meant.stranger
    cvv, pins = _one_of(rng, _CVV, stranger), _one_of(rng, _WRONG_PINS, stranger) + 1
    ecom = (meant.channel == ECOM) & ~meant.recurring
    asked = (ecom | (meant.channel == MOTO)) & (entry != STORED) & (rng.random(n) < 0.95)
    columns = {
        "cvv_result": _WORDS["cvv_result"].take(cvv),
        "avs_result": _WORDS["avs_result"].take(_one_of(rng, _AVS, stranger)),
        "three_ds_result": _WORDS["three_ds_result"].take(_one_of(rng, _THREE_DS, stranger)),
        "pin_attempts": pins,
        "is_recurring": meant.recurring,
        "is_new_payee": ~meant.familiar ^ (rng.random(n) < 0.15),
    }
    by_pin = (meant.channel == ATM) | ((meant.channel == POS) & (entry == CHIP) & (euros > 25))
    supports = unit(meant.merchant, scene.merchants.place_key ^ 64)
    valid = {
        "cvv_result": asked,
        "avs_result": ecom & (supports < 0.6),
        "three_ds_result": ecom & (rng.random(n) < 0.8),
        "pin_attempts": by_pin,
        "is_recurring": meant.channel == ECOM,
        "is_new_payee": ecom & (unit(meant.merchant, scene.merchants.place_key ^ 128) < 0.5),
    }
    wrong_cvv = asked & (cvv == CVV_RESULTS.index("N"))
    return columns, valid, np.where(by_pin & (pins == 3), intents.PIN, np.where(wrong_cvv, intents.CVV, 0))


def _refused(rng: np.random.Generator, meant: Intents, why: Ints) -> Ints:
    # What the scenario says; else after a failed check two times in three, else one payment in eighty.
    n = len(meant)
    at_random = rng.choice(
        [intents.FUNDS, intents.HONOUR, intents.LIMIT, intents.EXPIRED], n, p=[0.5, 0.28, 0.14, 0.08]
    )
    failed = (why > 0) & (rng.random(n) < 0.66)
    usual = np.where(failed, why, np.where(rng.random(n) < 0.0125, at_random, intents.APPROVED))
    return np.where(meant.refused == USUAL, usual, meant.refused)


def completed(scene: Scene, ids: Ids, meant: Intents, day: int) -> Payments:
    """The day's payment records."""
    rng = generator(ids.seed, "payments", day)
    meant = meant.take(np.lexsort((meant.merchant, meant.customer, meant.at_ms)))
    n, people, merchants = len(meant), scene.population, scene.merchants
    index = (np.int64(day) << ROW_BITS) + np.arange(n)
    late = rng.random(n) < LATE_SHARE
    hours = LATE_MIN_MS * np.exp(rng.random(n) * np.log(LATE_MAX_MS / LATE_MIN_MS))
    delay = np.where(late, hours, 100 + 2_900 * rng.beta(1.2, 6, n))
    received = meant.at_ms + delay.astype(np.int64)
    same_price = unit(meant.customer << 24 | meant.merchant, key_of(ids.seed, "prices"))
    amount, currency = _amounts(scene, meant, np.where(meant.recurring, same_price, rng.random(n)))
    euros = amount / places.MINOR_UNITS[currency] / places.PER_EURO[currency]
    entry = _entries(rng, meant)
    card, issued_ms = ids.card_index(meant.customer, meant.card, meant.at_ms)
    opened = people.opened_ms[meant.customer]
    terminals = merchants.terminals[meant.merchant]
    terminal = merchants.first_terminal[meant.merchant] + (rng.random(n) * terminals).astype(np.int64)
    home = places.COUNTRY[people.city[meant.customer]]
    # One issuer in twenty-five is a bank abroad.
    abroad = unit(meant.customer * 2 + meant.card, key_of(ids.seed, "issuers"))
    issuer = np.where(abroad < 0.04, (abroad * 25 * len(places.COUNTRIES)).astype(np.int64), home)
    parts = [
        _place(scene, meant, terminal),
        _contact(scene, rng, meant, categories.SHIPS[merchants.category[meant.merchant]]),
        _device(scene, ids, meant),
    ]
    checks, checked, why = _checks(rng, scene, meant, entry, euros)
    columns: Columns = {
        "transaction_id": ids.texts("transaction", index),
        "event_time": meant.at_ms,
        "received_at": received,
        "card_number": ids.cards(card),
        "customer_id": ids.texts("customer", meant.customer),
        "merchant_id": ids.texts("merchant", meant.merchant),
        "terminal_id": ids.texts("terminal", terminal),
        "merchant_category_code": _WORDS["merchant_category_code"].take(merchants.category[meant.merchant]),
        "merchant_country": _WORDS["country"].take(merchants.country[meant.merchant]),
        "issuer_country": _WORDS["country"].take(issuer),
        "amount_minor": amount,
        "currency": _WORDS["currency"].take(currency),
        "channel": _WORDS["channel"].take(meant.channel),
        "entry_mode": _WORDS["entry_mode"].take(entry),
        "account_opened_on": opened // DAY_MS,
        "card_issued_on": np.maximum(issued_ms, opened) // DAY_MS,
        **checks,
    }
    valid: dict[str, Flags] = {
        "terminal_id": (terminals > 0) & (meant.channel != MOTO),
        "card_issued_on": unit(card, key_of(ids.seed, "issue dates")) < 0.97,
        **checked,
    }
    for more, where in parts:
        columns |= more
        valid |= where
    return Payments(meant, index, received, _refused(rng, meant, why), Batch(n, columns, valid))
