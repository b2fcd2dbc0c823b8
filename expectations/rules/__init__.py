"""The language of rules, and the payloads of the control scopes that rules are made of."""
