import numpy as np
import pytest
from simulated import END_MS, Log, log_of, words

from simulator import places
from simulator.fraud.balance import STRATA, chosen
from simulator.intents import LOOKALIKES, SCENARIOS
from simulator.options import Options

PATTERNS = (
    "account_takeover",
    "card_testing",
    "velocity_attack",
    "impossible_travel",
    "amount_probing",
    "merchant_collusion",
    "synthetic_identity",
    "bust_out",
)


def rows(log: Log, pattern: str) -> np.ndarray:
    return np.flatnonzero(log.truth.scenario == SCENARIOS.index(pattern))


def episodes(log: Log, pattern: str) -> list[np.ndarray]:
    """Rows of each episode, in the order of the log; those cut off by the world's ends left out."""
    mine = rows(log, pattern)
    found = [mine[log.truth.episode[mine] == episode] for episode in np.unique(log.truth.episode[mine])]
    return found[1:-1]


@pytest.mark.parametrize(("rate", "seed"), [(0.004, 1), (0.004, 2), (0.01, 3)])
def test_the_share_of_fraud_is_what_was_asked_for(rate: float, seed: int) -> None:
    log = log_of(Options(END_MS, fraud_rate=rate, seed=seed))
    assert abs(log.fraud.mean() / rate - 1) < 0.1, f"seed {seed}"
    counts = {name: len(rows(log, name)) for name in PATTERNS}
    assert min(counts.values()) >= 60, f"seed {seed}: {counts}"


def test_without_fraud_there_is_none_and_no_label() -> None:
    log = log_of(Options(END_MS, days=3, payments_per_day=300, fraud_rate=0, seed=4))
    assert not log.fraud.any()
    assert log.labels.rows == 0
    assert len(log.truth) > 700


def test_an_episode_belongs_to_one_pattern(crowded: Log) -> None:
    truth, fraud = crowded.truth, crowded.fraud
    for episode in np.unique(truth.episode[fraud]):
        assert len(set(truth.scenario[truth.episode == episode].tolist())) == 1
    assert (truth.episode[~fraud] == -1).all()


def test_a_takeover_comes_from_a_device_that_the_customer_never_had(crowded: Log) -> None:
    customer, device = words(crowded.payments.texts("customer_id")), words(crowded.payments.texts("device_id"))
    seen, new = set(), []
    of_takeover = set(rows(crowded, "account_takeover").tolist())
    for row, pair in enumerate(zip(customer.tolist(), device.tolist(), strict=True)):
        if row in of_takeover:
            new.append(pair not in seen)
        else:
            seen.add(pair)
    assert np.mean(new) > 0.97


def test_tests_try_many_cards_with_coins_and_half_are_refused(crowded: Log) -> None:
    answers = crowded.authorisations
    result = dict(zip(answers.texts("transaction_id").to_list(), answers.texts("result").to_list(), strict=True))
    name = crowded.payments.texts("transaction_id").to_list()
    mine = rows(crowded, "card_testing")
    declined = [result.get(name[row]) == b"declined" for row in mine.tolist()]
    assert 0.42 < np.mean(declined) < 0.6
    cards = words(crowded.payments.texts("card_number"))
    for episode in episodes(crowded, "card_testing"):
        assert len(set(cards[episode].tolist())) >= 0.8 * len(episode)
    assert np.median(crowded.payments.numbers("amount_minor")[mine]) < 500


def test_attacks_use_one_card_many_times_within_hours(crowded: Log) -> None:
    cards, at = words(crowded.payments.texts("customer_id")), crowded.payments.numbers("event_time")
    for episode in episodes(crowded, "velocity_attack"):
        assert len(set(cards[episode].tolist())) == 1
        assert len(episode) >= 6
    spans = [np.ptp(at[episode]) / 60_000 for episode in episodes(crowded, "velocity_attack")]
    assert np.median(spans) < 60


def test_the_copy_is_faster_than_an_airliner(crowded: Log) -> None:
    at, customer = crowded.payments.numbers("event_time"), words(crowded.payments.texts("customer_id"))
    north, east = crowded.payments.numbers("latitude"), crowded.payments.numbers("longitude")
    has = crowded.payments.has("latitude") & (words(crowded.payments.texts("channel")) == b"pos")
    speeds = []
    for episode in episodes(crowded, "impossible_travel"):
        first = episode[np.argmin(at[episode])]
        before = np.flatnonzero((customer == customer[first]) & has & (at < at[first]) & ~crowded.fraud)
        last = before[np.argmax(at[before])]
        km = _km(north[last], east[last], north[first], east[first])
        speeds.append(km / ((at[first] - at[last]) / 3_600_000))
    assert np.quantile(speeds, 0.05) > places.FLIGHT_KMH


def _km(north_a: float, east_a: float, north_b: float, east_b: float) -> float:
    a, b = np.radians([north_a, east_a]), np.radians([north_b, east_b])
    h = np.sin((b[0] - a[0]) / 2) ** 2 + np.cos(a[0]) * np.cos(b[0]) * np.sin((b[1] - a[1]) / 2) ** 2
    return float(2 * 6371 * np.arcsin(np.sqrt(h)))


def test_probes_rise_at_one_merchant(crowded: Log) -> None:
    at, amount = crowded.payments.numbers("event_time"), crowded.payments.numbers("amount_minor")
    merchant, times = words(crowded.payments.texts("merchant_id")), []
    for episode in episodes(crowded, "amount_probing"):
        episode = episode[np.argsort(at[episode], kind="stable")]
        assert len(set(merchant[episode].tolist())) == 1
        rises = np.diff(amount[episode]) >= 0  # prices of a few euros round to the same sum
        assert rises[:-1].mean() >= 0.6
        times.append(amount[episode].max() / amount[episode][0])
    assert np.median(times) > 10


def test_a_colluding_shop_charges_strangers_more_than_usual(crowded: Log) -> None:
    merchant, customer = words(crowded.payments.texts("merchant_id")), words(crowded.payments.texts("customer_id"))
    amount, currency = crowded.payments.numbers("amount_minor"), words(crowded.payments.texts("currency"))
    dearer = []
    for episode in episodes(crowded, "merchant_collusion"):
        assert len(set(merchant[episode].tolist())) == 1
        assert len(set(customer[episode].tolist())) >= 0.8 * len(episode)
        usual = ~crowded.fraud & (merchant == merchant[episode[0]]) & (currency == currency[episode[0]])
        if usual.sum() >= 10:
            dearer.append(np.median(amount[episode]) / np.median(amount[usual]))
    assert np.median(dearer) > 2


def test_invented_people_live_quietly_then_burst_and_are_gone(crowded: Log) -> None:
    customer, at = words(crowded.payments.texts("customer_id")), crowded.payments.numbers("event_time")
    amount = crowded.payments.numbers("amount_minor")
    quiet, dearer = [], []
    for episode in episodes(crowded, "synthetic_identity"):
        people = set(customer[episode].tolist())
        assert 2 <= len(people) <= 3
        burst = at[episode].min()
        theirs = np.flatnonzero(np.isin(customer, list(people)) & ~crowded.fraud)
        assert (at[theirs] < burst + 2 * 86_400_000).all()  # nothing after the accounts are closed
        quiet.append((at[theirs] < burst).sum())
        if len(theirs):
            dearer.append(amount[episode].mean() / amount[theirs].mean())
    assert np.median(quiet) > 10
    assert np.median(dearer) > 3
    opened = crowded.payments.numbers("account_opened_on")[rows(crowded, "synthetic_identity")]
    age = at[rows(crowded, "synthetic_identity")] // 86_400_000 - opened
    assert age.min() >= 24
    assert age.max() <= 82


def test_who_busts_out_was_a_good_customer_for_long_and_falls_silent(crowded: Log) -> None:
    customer, at = words(crowded.payments.texts("customer_id")), crowded.payments.numbers("event_time")
    day = at // 86_400_000
    mine = rows(crowded, "bust_out")
    assert (day[mine] - crowded.payments.numbers("account_opened_on")[mine] >= 199).all()
    for episode in episodes(crowded, "bust_out"):
        assert len(set(customer[episode].tolist())) == 1
        assert not ((customer == customer[episode[0]]) & (at > at[episode].max())).any()


def test_thieves_pay_in_every_channel_and_by_day(crowded: Log) -> None:
    channel, fraud = words(crowded.payments.texts("channel")), crowded.fraud
    for name in (b"pos", b"ecom", b"moto", b"atm", b"wallet"):
        mine = channel == name
        assert 0.1 < mine[fraud].mean() / mine[~fraud].mean() < 2.6, name
    hour = crowded.payments.numbers("event_time") // 3_600_000 % 24
    night = (hour >= 1) & (hour < 5)
    assert night[fraud].mean() < 2 * night[~fraud].mean()


def test_every_kind_of_honest_lookalike_is_there_and_outnumbers_no_world(usual: Log) -> None:
    counts = np.bincount(usual.truth.lookalike, minlength=len(LOOKALIKES))
    found = dict(zip(LOOKALIKES[1:], counts[1:].tolist(), strict=True))
    assert min(found.values()) >= 100, found
    assert not usual.fraud[usual.truth.lookalike > 0].any()
    assert 0.1 < (usual.truth.lookalike > 0).mean() < 0.35


def test_choosing_fills_all_strata_alike() -> None:
    random = np.random.default_rng(0)
    rank = random.random((600, 12, 2))
    filled = np.zeros((2, STRATA))
    chosen(rank, np.ones(600, np.int64), np.ones((600, 12), bool), filled)
    assert filled.sum() == 1_200
    assert filled.min() >= 20
    assert filled.max() <= 30


def test_choosing_leaves_out_who_may_not_be_chosen() -> None:
    allowed = np.zeros((50, 12), bool)
    allowed[:, 7] = True
    rank = np.random.default_rng(0).random((50, 12, 1))
    assert (chosen(rank, np.ones(50, np.int64), allowed, np.zeros((1, STRATA))) == 7).all()
