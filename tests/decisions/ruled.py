"""Rules that tests put into force."""


def rule(name, sql="amount_base_minor >= 0", action=None, **changes):
    """A rule over rows with an amount, which all payments have."""
    return {
        "id": name,
        "version": 1,
        "state": "active",
        "sql": sql,
        "action": action or {"outcome": "review"},
        "reason_code": name.upper(),
        "sentence": "A test.",
        "owner": "tests",
        "pattern": None,
        "valid_from": None,
        "valid_to": None,
        "tests": {
            "matching": [{"amount_base_minor": 5000, "channel": "ecom", "merchant_country": "FR"}],
            "not_matching": [{}],
        },
        **changes,
    }
