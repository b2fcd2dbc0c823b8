"""Rules that tests put into force."""


def rule(name, sql="amount_base_minor >= 0", action=None, **changes):
    """An active rule, by itself over rows with an amount, which all payments have.

    It is tested by a large payment on the net and by one without an amount.
    """
    return {
        "id": name,
        "version": 1,
        "state": "active",
        "sql": sql,
        "action": action or {"outcome": "review"},
        "reason_code": name.upper().replace("-", "_"),
        "sentence": "A test.",
        "owner": "tests",
        "pattern": None,
        "valid_from": None,
        "valid_to": None,
        "tests": {
            "matching": [
                {
                    "amount_base_minor": 500_000,
                    "channel": "ecom",
                    "merchant_country": "FR",
                    "card_life_tx_count": 9,
                }
            ],
            "not_matching": [{}],
        },
        **changes,
    }
