from __future__ import annotations

import pandas as pd
import pytest

from overread.cases.sources.tables import MAX_COLUMNS, read_table
from overread.core.errors import InputError


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_found(tmp_path, separator):
    path = tmp_path / "t.csv"
    path.write_text(f"a{separator}b\n1{separator}x y\n", encoding="utf-8")
    assert read_table(path).to_dict("list") == {"a": ["1"], "b": ["x y"]}


def test_byte_order_mark_and_quoted_newline(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes('\ufeffname,"long, name"\na,"two\nlines"\n'.encode())
    assert read_table(path).to_dict("list") == {"name": ["a"], "long, name": ["two\nlines"]}


def test_words_that_pandas_takes_for_missing_stay_words(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\nNA,007\nNone,1.50\n", encoding="utf-8")
    assert read_table(path).to_dict("list") == {"a": ["NA", "None"], "b": ["007", "1.50"]}


def test_parquet_equals_csv(tmp_path):
    frame = pd.DataFrame({"image": ["a.png", "b.png"], "age": [40.0, None], "n": [1, 2]})
    frame.to_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").to_dict("list") == {
        "image": ["a.png", "b.png"],
        "age": ["40.0", ""],
        "n": ["1", "2"],
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "empty"), ("\n\n", "empty"), ("a,b\n", "no rows"), ("a,a\n1,2\n", "stands twice"), ("a,b\n1,2,3\n", "as many cells"),
     ("a,b\n1,2\n1,2,3,4\n", "as many cells"), (",".join(f"c{i}" for i in range(MAX_COLUMNS + 1)) + "\n", "too many columns")],
)  # fmt: skip
def test_a_broken_table_is_one_paragraph(tmp_path, text, says):
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=says) as caught:
        read_table(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_names_its_neighbour(tmp_path):
    (tmp_path / "metadata.csv").write_text("a\n1\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"id you mean 'metadata\.csv'"):
        read_table(tmp_path / "metadta.csv")


@pytest.mark.parametrize(
    ("name", "data"), [("t.csv", b"a,b\n\xff\xfe,1\n"), ("t.parquet", b"PAR1 no"), ("t.parquet", b"")]
)
def test_damaged_bytes(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError):
        read_table(tmp_path / name)
