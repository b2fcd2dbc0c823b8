"""Features and gold: vectors for machines, named columns, scores, training sets and figures for people."""

from lakehouse.tables import POSITION, Column, Table

_PAYMENT = (
    Column("transaction_id", "string", "the payment's"),
    Column("event_time", "timestamp", "when the customer paid"),
)

VECTORS = Table(
    name="features.vectors",
    meaning="The feature vector of every accepted payment, as of just before it.",
    grain="one accepted payment",
    key=("topic_id", "partition", "offset"),
    columns=(
        *POSITION,
        *_PAYMENT,
        Column("feature_set", "string", "hash of the feature set"),
        Column("vector", "array<float>", "values in the order of the feature set; NaN is missing"),
    ),
    event_time="event_time",
)
FEATURES = Table(
    name="gold.features",
    meaning="The feature vectors with a named column per feature; the columns follow from features/catalogue.py.",
    grain="one accepted payment",
    key=("topic_id", "partition", "offset"),
    columns=(*POSITION, *_PAYMENT, Column("feature_set", "string", "hash of the feature set")),
    event_time="event_time",
)
SCORES = Table(
    name="gold.scores",
    meaning="Payments scored in batch by the model that was in force when they were scored.",
    grain="one accepted payment and model",
    key=("topic_id", "partition", "offset", "model_digest"),
    columns=(
        *POSITION,
        *_PAYMENT,
        Column("model_digest", "string", "SHA-256 (hex) of the bundle's manifest"),
        Column("score", "double", "0 to 1, rounded to 1e-6"),
        Column("score_xgboost", "double", "of XGBoost or of a network, calibrated, 0 to 1, rounded to 1e-6"),
        Column("score_isolation_forest", "double", "calibrated, 0 to 1, rounded to 1e-6"),
        Column("risk", "string", "low, medium, high or critical, by the bundle's cuts"),
    ),
    event_time="event_time",
)
DECISIONS = Table(
    name="gold.decisions",
    meaning="What every payment was answered in the end.",
    grain="one decided payment",
    key=("topic_id", "partition", "offset"),
    columns=(
        *POSITION,
        *_PAYMENT,
        Column("decided_outcome", "string", "the engine's outcome"),
        Column("answered_outcome", "string", "the API's, where it could not wait", nullable=True),
        Column("challenge_result", "string", "how its challenge ended: approved, declined or expired", nullable=True),
        Column(
            "effective_outcome",
            "string",
            "how its challenge ended (approved: approve; declined, expired: decline), else answered, else decided",
        ),
        Column("risk", "string", "low, medium, high or critical", nullable=True),
        Column("score", "double", "0 to 1", nullable=True),
        Column("score_with_rules", "double", "0 to 1, with what rules added; its band counts", nullable=True),
        Column("rules_fired", "array<string>", "id@version of the active rules that fired and acted", nullable=True),
        Column("reason_codes", "array<string>", "of lists and of the rules that acted", nullable=True),
        Column(
            "lists_hit", "array<string>", "list:kind of every entry that names somebody of the payment", nullable=True
        ),
        Column("rung", "string", "rung of the ladder that decided", nullable=True),
        Column("propensity", "double", "probability that exploration lets such a payment through", nullable=True),
        Column("explored_from", "string", "outcome without exploration, where it let it through", nullable=True),
        Column("arm", "string", "champion or challenger: arm of a traffic split", nullable=True),
        Column("arm_probability", "double", "with which a customer comes into that arm", nullable=True),
        Column("amount_base_minor", "bigint", "minor units of the base currency", nullable=True),
        Column("card_token", "string", "the card's token", personal="token"),
        Column("customer_token", "string", "the customer's token", personal="token"),
        Column("merchant_id", "string", "the merchant"),
        Column("model_digest", "string", "SHA-256 (hex) of the active bundle's manifest", nullable=True),
        Column("decision_id", "string", "hash of the source position"),
    ),
    event_time="event_time",
)
TRAINING_SET = Table(
    name="gold.training_set",
    meaning="Vectors with what was known of them at `as_of`; `is_mature` says whose labels had time to arrive.",
    grain="one accepted payment",
    key=("topic_id", "partition", "offset"),
    columns=(
        *POSITION,
        *_PAYMENT,
        Column("card_token", "string", "the card's token", personal="token"),
        Column("customer_token", "string", "the customer's token", personal="token"),
        Column("amount_base_minor", "bigint", "minor units of the base currency"),
        Column("is_fraud", "boolean", "by the labels that had arrived by as_of and stood: gold/labels.py has the rule"),
        Column("label_available_at", "timestamp", "since when a standing label says so; null without", nullable=True),
        Column("label_source", "string", "who was believed; null where nobody had a word", nullable=True),
        Column("label_confidence", "double", "0 to 1, of that label", nullable=True),
        Column("is_mature", "boolean", "the payment was older than the label gap at as_of"),
        Column("as_of", "timestamp", "what had arrived by then counts"),
        Column("feature_set", "string", "hash of the feature set"),
        Column("vector", "array<float>", "values in the order of the feature set; NaN is missing"),
    ),
    event_time="event_time",
    position=None,
)
FRAUD_DAILY = Table(
    name="gold.fraud_daily",
    meaning="Payments, declines and known fraud by day of event.",
    grain="one day, UTC",
    key=("day",),
    columns=(
        Column("day", "date", "day of event_time, UTC"),
        Column("payments", "bigint", "accepted payments"),
        Column("amount_base_minor", "bigint", "their sum, minor units of the base currency"),
        Column("declined", "bigint", "payments whose issuer declined them"),
        Column("fraud_payments", "bigint", "payments that are known to be fraud by now"),
        Column("fraud_amount_base_minor", "bigint", "their sum"),
        Column("customers", "bigint", "distinct customers"),
        Column("merchants", "bigint", "distinct merchants"),
    ),
    position=None,
)
LABEL_MATURITY = Table(
    name="gold.label_maturity",
    meaning="How late labels of fraud come by source, and how many are still to come; all intervals are of 95 %.",
    grain="one source and age of payments",
    key=("source", "age_d"),
    columns=(
        Column("source", "string", "chargeback, early_warning, analyst, customer or rule; any: the first trusted one"),
        Column("age_d", "int", "whole days since the end of the day of payment"),
        Column("labels", "bigint", "that had arrived in whole days, of all ages"),
        Column("share", "double", "of the labels that ever come, those within age_d days; null without", nullable=True),
        Column("share_low", "double", "lower end of its interval", nullable=True),
        Column("share_high", "double", "upper end of its interval", nullable=True),
        Column("to_come", "double", "labels that payments of this age are still to get", nullable=True),
        Column("to_come_low", "double", "lower end of its interval", nullable=True),
        Column("to_come_high", "double", "upper end of its interval", nullable=True),
        Column("as_of", "timestamp", "what had arrived by then counts"),
    ),
    position=None,
)

TABLES = (VECTORS, FEATURES, SCORES, DECISIONS, TRAINING_SET, FRAUD_DAILY, LABEL_MATURITY)
