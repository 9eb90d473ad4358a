from __future__ import annotations

import pandas as pd
import pytest

from overread.cases.sources.layout import Layout
from overread.cases.sources.tables import MAX_COLUMNS, header_of, open_table, read_table
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


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (b"image,masks\na.png,m.png\n", ("image", "masks")),
        ("image;größe; masks \na;1;2\n".encode("cp1252"), ("image", "größe", "masks")),
        ("image\tmasks\r\na\tb\r\n".encode("utf-16"), ("image", "masks")),
        (b'sep=;\n"the\nimage";;masks\na;;b\n', ("the\nimage", "masks")),
        (b"image,masks\n" + b"a.png,m.png\n" * 800_000, ("image", "masks")),
        (b"", ()),
        (b"PK\3\4" + bytes(200), ()),
        (b"<html>", ()),
    ],
)
def test_the_header_is_read_from_the_beginning_of_a_table_of_text(tmp_path, data, names):
    (tmp_path / "t.csv").write_bytes(data)
    assert header_of(tmp_path / "t.csv") == names
    assert header_of(tmp_path) == header_of(tmp_path / "none.csv") == ()


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
    [("", "empty"), ('[{"a": 1}]', "not a table"), ("<html><table>", "not a table"), ("\n\n", "empty"), ("a,b\n", "no rows"), ("a,a\n1,2\n", "stands twice"), ("img/0/1.png,x\nimg/0/2.png,y\n", "names no columns"), ("d/p01/n/,0\nd/p02/p/,1\n", "names no columns"), ("a,b\n1,2,3\n", "as many cells"),
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
    ("name", "data"), [("t.csv", b"a,b\n\xff\xfe\xfd,1\n"), ("t.parquet", b"PAR1 no"), ("t.parquet", b"")]
)
def test_damaged_bytes(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError):
        read_table(tmp_path / name)


TEXT = "image,label\na.png,gesund\nb.png,bösartig\n"


@pytest.mark.parametrize(
    ("data", "says"),
    [(TEXT.encode("utf-16"), "UTF-16"), (TEXT.encode("utf-16-le"), "UTF-16"), (TEXT.encode("utf-16-be"), "UTF-16"), (TEXT.encode("cp1252"), "Windows-1252, with words such as bösartig"),
     (TEXT.encode("latin-1"), "--encoding"), (TEXT.replace("\n", "\r").encode(), ""), (TEXT.replace("\n", "\r\n").encode("utf-8-sig"), ""),
     (TEXT.replace(",", ";").encode(), "separated by ';'"), (TEXT.replace(",", "\t").encode(), "separated by tab"), (b"sep=;\r\n" + TEXT.replace(",", ";").encode(), "';'"),
     (TEXT.replace("\n", ",,\n").encode(), "2 columns without name and content"), (TEXT.replace("d\n", "d,,\n").encode(), "")],
)  # fmt: skip
def test_what_spreadsheets_leave_is_read_and_told(tmp_path, data, says):
    (tmp_path / "t.csv").write_bytes(data)
    table, notes = open_table(tmp_path / "t.csv")
    assert table.to_dict("list") == {"image": ["a.png", "b.png"], "label": ["gesund", "bösartig"]}
    assert says in "; ".join(notes)
    assert bool(says) == bool(notes)


@pytest.mark.parametrize(("text", "encoding"), [("злокачественная", "cp1251"), ("złośliwy", "cp1250"), ("悪性腫瘍", "shift_jis"), ("恶性肿瘤", "gb18030")])  # fmt: skip
def test_an_encoding_in_doubt_is_asked_for(tmp_path, text, encoding):
    (tmp_path / "t.csv").write_bytes(f"image,label\na.png,{text}\n".encode(encoding))
    with pytest.raises(InputError, match="--encoding"):
        read_table(tmp_path / "t.csv")
    assert read_table(tmp_path / "t.csv", Layout(encoding=encoding))["label"].tolist() == [text]
    with pytest.raises(InputError, match="no encoding"):
        read_table(tmp_path / "t.csv", Layout(encoding="utf-nine"))


def test_a_column_twice_counts_once_if_its_cells_are_the_same(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,a,\n1,2,1,x\n3,4,3,y\n", encoding="utf-8")
    table, notes = open_table(tmp_path / "t.csv")
    assert table.to_dict("list") == {"a": ["1", "3"], "b": ["2", "4"], "column 4": ["x", "y"]}
    assert len(notes) == 2


def test_short_rows_are_counted(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3\n\n", encoding="utf-8")
    table, notes = open_table(tmp_path / "t.csv")
    assert table["b"].tolist() == ["2", ""]
    assert "1 rows have fewer cells" in notes[0]


def test_the_separator_is_what_gives_every_row_the_same_cells(tmp_path):
    (tmp_path / "t.csv").write_text("file;remarks, if any\na.png;round, dense, old\nb.png;none\n", encoding="utf-8")
    assert read_table(tmp_path / "t.csv")["remarks, if any"].tolist() == ["round, dense, old", "none"]
