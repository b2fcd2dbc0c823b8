"""The models' reasons reach the answer to the payment whose decision they name, and nobody else's."""

from decisions.reason_codes import SENTENCES
from serving.decisions import described
from serving.following import model_reasons
from serving.replies import Replies, Reply
from tests.lakehouse.records import raw


def decided(transaction_id, decision_id):
    return Reply(
        transaction_id,
        decision_id=decision_id,
        outcome="review",
        rung="full",
        reason_codes=("CARD_TESTING",),
        rules_fired=("card-testing@1",),
    )


def test_reasons_that_follow_a_decision_are_in_its_answer():
    replies = Replies(10)
    replies.decided([decided("t1", "d0"), decided("t2", "d1")])
    replies.explained(model_reasons([raw("decision"), raw("engine_start"), raw("reasons")]))
    answer = described(replies.find("t1"))
    assert (answer.reason_codes, answer.rules_fired) == (["CARD_TESTING"], ["card-testing@1"])
    (reason,) = answer.model_reasons.codes
    assert (reason.code, reason.sentence) == ("MODEL_VELOCITY", SENTENCES["MODEL_VELOCITY"])
    assert answer.model_reasons.added["ring"] == 0.25
    assert described(replies.find("t2")).model_reasons is None


def test_reasons_of_a_conflict_or_of_an_unknown_payment_change_nothing():
    replies = Replies(10)
    replies.decided([decided("t1", "the first one's")])
    replies.explained(model_reasons([raw("reasons"), raw("reasons", transaction_id="nobody")]))
    assert replies.find("t1").model_reasons is None
    assert replies.find("nobody") is None


def test_an_answer_without_the_engine_knows_no_reasons():
    answer = described(Reply("t1", answered="review"))
    assert (answer.reason_codes, answer.rules_fired, answer.model_reasons) == (None, None, None)
