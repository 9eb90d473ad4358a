from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from overread.cases.query import matching
from overread.core.errors import InputError

TABLE = pd.DataFrame(
    {"source": ["a", "b", "b c", ""], "age": [30.0, 50.0, np.nan, 41.0], "two words": ["1", "2", "3", "4"]}
)


@pytest.mark.parametrize(
    ("query", "rows"),
    [("source == 'a'", [0]), ("source = a", [0]), ('source == "b c"', [2]), ("source != 'a'", [1, 2, 3]), ("source == ''", [3]),
     ("age > 40", [1, 3]), ("age >= 41 and age <= 50", [1, 3]), ("not age > 40", [0, 2]), ("age < 40 or source == 'b'", [0, 1]),
     ("source in ('a', b)", [0, 1]), ("source not in (a)", [1, 2, 3]), ("`two words` == 3", [2]),
     ("age == 30 or age == 50 and source == 'x'", [0]), ("(age == 30 or age == 50) and source == 'b'", [1]), ("not not source == a", [0]),
     ("SOURCE == a", None), ("age > 40.5e0", [1, 3])],
)  # fmt: skip
def test_rows(query, rows):
    if rows is None:
        with pytest.raises(InputError, match="id you mean 'source'"):
            matching(TABLE, query)
        return
    assert np.flatnonzero(matching(TABLE, query)).tolist() == rows


@pytest.mark.parametrize(
    "query",
    ["", "source", "source ==", "== a", "source == a b", "source == a and", "(source == a", "source in a", "source in (a", "age > > 3",
     "__import__('os').system('x')", "source == a; 1", "not", "source ~ a", "'", "(" * 100 + "age > 1", "x" * 3000, "source not == a", "source == )"],
)  # fmt: skip
def test_what_is_no_query(query):
    with pytest.raises(InputError) as caught:
        matching(TABLE, query)
    assert "\n" not in str(caught.value)
