"""A lake without damage is clean; damage is named with its place and its repair."""


def test_a_lake_without_damage_is_clean(look):
    code, found = look()
    assert found["findings"] == []
    assert code == 0
    assert found["not_compared"] == []
