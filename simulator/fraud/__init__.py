"""The eight patterns of fraud, each a pure function from a schedule of episodes to what thieves mean to pay."""
