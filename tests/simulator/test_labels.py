import numpy as np
import pytest
from simulated import Log, words

SHARED = ("card_number", "customer_id", "merchant_id", "device_id", "ip_address", "currency")


def _rows(log: Log) -> np.ndarray:
    """Row of each label's payment."""
    return np.array([log.row_of[name] for name in log.labels.texts("transaction_id").to_list()])


def test_fraud_is_reported_days_later_half_of_it_within_four_nearly_all_within_seven(crowded: Log) -> None:
    labels, right = crowded.labels, crowded.fraud[_rows(crowded)]
    days = (labels.numbers("label_available_at") - labels.numbers("event_time"))[right] / 86_400_000
    # Labels that would come after the end are not there; look at frauds with three weeks to go.
    early = labels.numbers("event_time")[right] < crowded.options.end_ms - 21 * 86_400_000
    assert abs(np.median(days[early]) - 4) < 0.2
    assert abs((days[early] <= 7).mean() - 0.95) < 0.012
    assert days.max() < 20


def test_all_but_three_in_a_hundred_frauds_are_reported(crowded: Log) -> None:
    early = crowded.payments.numbers("event_time") < crowded.options.end_ms - 21 * 86_400_000
    reported = np.zeros(len(crowded.truth), bool)
    reported[_rows(crowded)] = True
    assert abs(reported[crowded.fraud & early].mean() - 0.97) < 0.012


def test_labels_are_written_when_they_become_available_in_that_order(crowded: Log) -> None:
    labels = crowded.labels
    assert (labels.numbers("received_at") == labels.numbers("label_available_at")).all()
    assert (np.diff(labels.numbers("label_available_at")) >= 0).all()
    assert (labels.numbers("label_available_at") > crowded.truth.received_ms[_rows(crowded)]).all()


@pytest.mark.parametrize("name", SHARED)
def test_labels_carry_the_keys_of_their_payment(crowded: Log, name: str) -> None:
    rows = _rows(crowded)
    assert (words(crowded.labels.texts(name)) == words(crowded.payments.texts(name))[rows]).all()
    assert (crowded.labels.has(name) == crowded.payments.has(name)[rows]).all()


def test_labels_carry_time_and_amount_of_their_payment(crowded: Log) -> None:
    rows = _rows(crowded)
    for name in ("event_time", "amount_minor"):
        assert (crowded.labels.numbers(name) == crowded.payments.numbers(name)[rows]).all()


def test_some_honest_payments_are_disputed_and_most_of_these_labels_taken_back(crowded: Log) -> None:
    labels, right = crowded.labels, crowded.fraud[_rows(crowded)]
    says_fraud = labels.numbers("is_fraud").astype(bool)
    wrong = says_fraud & ~right
    assert 0.01 < wrong.sum() / right.sum() < 0.035
    reverses = labels.has("reverses")
    assert not says_fraud[reverses].any()
    at = dict(zip(labels.texts("label_id").to_list(), labels.numbers("received_at").tolist(), strict=True))
    wrong_ids = set(words(labels.texts("label_id"))[wrong].tolist())
    taken_back = words(labels.texts("reverses"))[reverses].tolist()
    assert set(taken_back) <= wrong_ids
    assert 0.6 < len(taken_back) / len(wrong_ids) < 0.95
    later = labels.numbers("received_at")[reverses] - [at[name] for name in taken_back]
    assert later.min() >= 2 * 86_400_000
    assert later.max() <= 9 * 86_400_000


def test_analysts_clear_some_payments(crowded: Log) -> None:
    labels = crowded.labels
    cleared = ~labels.numbers("is_fraud").astype(bool) & ~labels.has("reverses")
    assert cleared.sum() > 100
    assert set(words(labels.texts("source"))[cleared].tolist()) == {b"analyst"}
    assert not crowded.fraud[_rows(crowded)][cleared].any()


def test_chargebacks_need_money_that_has_moved(crowded: Log) -> None:
    answers = crowded.authorisations
    declined = set(words(answers.texts("transaction_id"))[words(answers.texts("result")) == b"declined"].tolist())
    source, name = words(crowded.labels.texts("source")), words(crowded.labels.texts("transaction_id"))
    after_refusal = np.isin(name, list(declined))
    assert not (source[after_refusal] == b"chargeback").any()
    assert (source[~after_refusal] == b"chargeback").mean() > 0.6
    assert set(source.tolist()) == {b"chargeback", b"early_warning", b"analyst", b"customer"}


def test_honest_payments_are_declined_one_time_in_fifty(usual: Log) -> None:
    answers = usual.authorisations
    honest = ~usual.fraud[[usual.row_of[name] for name in answers.texts("transaction_id").to_list()]]
    declined = words(answers.texts("result")) == b"declined"
    assert 0.013 < declined[honest].mean() < 0.027
    assert 0.12 < declined[~honest].mean() < 0.35
    assert (answers.has("decline_reason") == declined).all()
    reasons = set(words(answers.texts("decline_reason"))[declined].tolist())
    assert reasons == {
        b"insufficient_funds",
        b"do_not_honour",
        b"exceeds_limit",
        b"invalid_cvv",
        b"expired_card",
        b"wrong_pin",
    }
