"""How the two forms are compared; `make torture` compares them, as compiling takes minutes and a compiler."""

import pytest

from tests.forms.__main__ import difference


@pytest.mark.parametrize(
    ("compiled", "first"),
    [
        ("one\ntwo\n", None),
        ("one\n2\n", "line 2 differs"),
        ("one\n", "line 2 differs"),
        ("one\ntwo\n3\n", "line 3 differs"),
    ],
)
def test_first_line_that_differs_is_told(compiled: str, first: str | None) -> None:
    """Also one that the other form does not have at all."""
    found = difference({"pure": "one\ntwo\n", "compiled": compiled})
    assert found is None if first is None else found is not None and found.startswith(first)
