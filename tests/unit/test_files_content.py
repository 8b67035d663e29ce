"""What is found in files of each kind, and what becomes of those that are made to do harm."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import re
import struct
import subprocess
import zlib
from datetime import UTC, datetime

import pytest
from PIL import Image
from pypdf import PdfWriter

from actors.files import image, pdf, reading, result, spreadsheet
from actors.files.content import Content, examine
from actors.files.errors import UnusableFile
from actors.files.records import FileRecord

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def looked_at(name, data, *, digest=None):
    record = FileRecord(
        id="01998f2e-5c5e-7000-8000-3f2f5a1b9c0d",
        name=name,
        size=len(data),
        sha256=digest or hashlib.sha256(data).hexdigest(),
        task="",
        created_at=NOW,
        type=None,
        profile=None,
        fault=None,
        processed_at=None,
    )
    content = Content()
    examine(io.BytesIO(data), record, content)
    return content


def profile(name, data):
    return looked_at(name, data).profile


def columns(text, name="table.csv"):
    return {column["name"]: column for column in profile(name, text.encode())["columns"]}


def picture(format_name, mode="RGB", size=(640, 400), **options):
    written = io.BytesIO()
    Image.new(mode, size, 1).save(written, format_name, **options)
    return written.getvalue()


def chunk(kind, data):
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def png_of(width, height):
    """Return a PNG that says it is this large; its data decompress to nothing but zeros."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1_000_000), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def document(*objects):
    """Return a PDF with these objects, numbered from 1; the first is the catalogue."""
    body, offsets = b"%PDF-1.5\n", []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return body + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF"
        % (len(objects) + 1, table, len(objects) + 1, len(body))
    )


CATALOGUE = b"<</Type/Catalog/Pages 2 0 R>>"


# Images


@pytest.mark.parametrize(
    ("name", "format_name", "mode"),
    [
        ("a.png", "PNG", "RGB"),
        ("a.png", "PNG", "RGBA"),
        ("a.png", "PNG", "LA"),
        ("a.png", "PNG", "P"),
        ("a.png", "PNG", "I;16"),
        ("a.png", "PNG", "1"),
        ("a.jpg", "JPEG", "RGB"),
        ("a.JPEG", "JPEG", "CMYK"),
        ("a.gif", "GIF", "P"),
        ("a.webp", "WEBP", "RGBA"),
        ("a.bmp", "BMP", "RGB"),
        ("a.tiff", "TIFF", "F"),
        ("no extension", "PNG", "RGB"),
    ],
)
def test_an_image_has_a_size_and_a_thumbnail(name, format_name, mode):
    content = looked_at(name, picture(format_name, mode))

    assert (content.profile["width"], content.profile["height"]) == (640, 400)
    with Image.open(io.BytesIO(content.thumbnail)) as thumbnail:
        assert (thumbnail.format, thumbnail.size) == ("JPEG", (256, 160))


def test_what_is_transparent_is_white_in_the_thumbnail_and_what_lies_on_its_side_stands_up():
    clear = io.BytesIO()
    Image.new("RGBA", (20, 10), (0, 0, 0, 0)).save(clear, "PNG")
    turned = picture(
        "JPEG",
        size=(20, 10),
        exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
    )

    with Image.open(io.BytesIO(looked_at("a.png", clear.getvalue()).thumbnail)) as thumbnail:
        assert thumbnail.getpixel((5, 5)) == (255, 255, 255)
    with Image.open(io.BytesIO(looked_at("a.jpg", turned).thumbnail)) as thumbnail:
        assert thumbnail.size == (10, 20)


@pytest.mark.parametrize(
    "size", [(8_000, 8_000), (12_000, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)]
)
def test_a_pixel_bomb_is_not_decoded(size):
    with pytest.raises(UnusableFile, match=r"pixels"):
        looked_at("bomb.png", png_of(*size))


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, before it gives up
@pytest.mark.parametrize("keep", [0.3, 0.6])
@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_a_damaged_image_says_so(format_name, keep):
    whole = picture(format_name, "RGB", size=(64, 64))

    with pytest.raises(UnusableFile, match=r"damaged|pixels"):
        looked_at("cut", whole[: int(len(whole) * keep)])


# Tables


PEOPLE = """name,age,height,born,seen,member,phone
Ada,36,1.65,1815-12-10,2026-01-02T03:04:05Z,true,0049123
"Hopper, Grace",85,,1906-12-09,2026-01-02,FALSE,0177
Emmy,7,-1e1,1882-03-23,,true,12
"""


def test_columns_have_types_gaps_and_bounds():
    found = columns(PEOPLE)

    assert {name: column["type"] for name, column in found.items()} == {
        "name": "text",
        "age": "integer",
        "height": "number",
        "born": "date",
        "seen": "datetime",
        "member": "boolean",
        "phone": "text",
    }
    assert {name: column["nulls"] for name, column in found.items() if column["nulls"]} == {
        "height": 1,
        "seen": 1,
    }
    assert (found["age"]["min"], found["age"]["max"]) == (7, 85)
    assert (found["height"]["min"], found["height"]["max"]) == (-10.0, 1.65)
    assert (found["born"]["min"], found["born"]["max"]) == ("1815-12-10", "1906-12-09")
    assert (found["name"]["min"], found["name"]["max"]) == ("Ada", "Hopper, Grace")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r"])
def test_delimiters_and_line_breaks_are_recognised(delimiter, line_break):
    written = io.StringIO()
    rows = csv.reader(io.StringIO(PEOPLE))
    csv.writer(written, delimiter=delimiter, lineterminator=line_break).writerows(rows)

    found = profile("people.csv", written.getvalue().encode())

    assert (found["delimiter"], found["rows"], len(found["columns"])) == (delimiter, 3, 7)
    assert found["uneven_rows"] == 0


@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("utf-16", "utf-16"),
        ("cp1252", "cp1252"),
    ],
)
def test_encodings_are_recognised(encoding, told):
    found = profile("a.csv", "stadt,größe\nKöln,1\nMünchen,2\n".encode(encoding))

    assert found["encoding"] == told
    assert [(column["name"], column["max"]) for column in found["columns"]] == [
        ("stadt", "München"),
        ("größe", 2),
    ]


def test_a_table_without_names_gets_some_and_names_that_repeat_are_told_apart():
    assert list(columns("1,2\n3,4\n")) == ["column 1", "column 2"]
    assert profile("a.csv", b"1,2\n3,4\n")["rows"] == 2
    assert list(columns("a,a,\nx,y,z\n")) == ["a", "a column 2", "column 3"]


def test_rows_of_another_length_are_counted():
    found = profile("a.csv", b"a,b,c\n1,2\n1,2,3,4\n1,2,3\n\n")

    assert (found["rows"], found["uneven_rows"]) == (3, 2)
    assert [column["nulls"] for column in found["columns"]] == [0, 0, 1]


@pytest.mark.parametrize(
    "value", ["NaN", "inf", "1e999", "9" * 400, "١٢", "1_000", "2026-13-01", "0x10"]
)
def test_what_only_looks_like_a_number_or_a_date_is_text(value):
    assert columns(f"a\n{value}\n")["a"]["type"] == "text"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('a,b\n"never closed,1\n2,3\n', r"line \d+ is no row of a table: .*quotes"),
        ('a,b\n"x"y,1\n', r"line 2 is no row of a table"),
        (",".join("c" * 100_000) + "\n", r"line 1 has 100000 columns"),
        ("a,b\n" + ",".join("1" * 100_000) + "\n", r"line 2 has 100000 columns"),
        ("a," + "x" * 200_000 + "\n", r"line 1 is no row of a table: field larger"),
        ("a," + "x," * 700_000 + "\n", r"goes on for more than 1048576 characters"),
        ("x" * 3_000_000, r"goes on for more than 1048576 characters"),
        ('a\n"' + '\n","' * 600_000, r"goes on for more than 1048576 characters"),
        ("\n \n", None),
        ("\n\n\n", "the table has no row"),
    ],
)
def test_a_table_that_is_none_says_where(text, fault):
    if fault is None:
        profile("a.csv", text.encode())
        return

    with pytest.raises(UnusableFile, match=fault):
        profile("a.csv", text.encode())


@pytest.mark.parametrize("piece", ["x", '\n","'])
def test_a_line_or_record_without_end_is_given_up_early(piece):
    endless = reading.Lines(itertools.chain(['a\n"'], itertools.repeat(piece * 1_000)))

    with pytest.raises(UnusableFile, match=r"goes on for more than|larger than field limit"):
        spreadsheet.profile(endless, "utf-8")


def test_the_profile_of_a_wide_table_fits_the_result_of_a_task():
    names = ",".join(f"column {number}" for number in range(spreadsheet.MOST_COLUMNS))
    found = profile("wide.csv", f"{names}\n".encode())

    assert len(found["columns"]) == spreadsheet.MOST_COLUMNS
    assert result.fitting(found, 10_000)["columns"] == spreadsheet.MOST_COLUMNS
    assert result.fitting(found, 1_000_000) == found


def test_a_table_longer_than_a_block_is_profiled_whole():
    rows = [f"{n % 97},{n / 7:.3f},{'x' if n % 5 else ''}" for n in range(60_000)]
    whole = profile("a.csv", ("a,b,c\n" + "\n".join(rows)).encode())

    [a, b, c] = whole["columns"]
    numbers, fractions = [n % 97 for n in range(60_000)], [round(n / 7, 3) for n in range(60_000)]
    assert whole["rows"] == 60_000
    assert (a["min"], a["max"], a["type"]) == (min(numbers), max(numbers), "integer")
    assert (b["min"], b["max"], b["type"]) == (min(fractions), max(fractions), "number")
    assert c["nulls"] == 12_000


@pytest.mark.parametrize("count", range(18, 24))
def test_no_row_is_lost_where_the_sample_ends(count):
    assert profile("a.csv", b"a,b\n" + b"x,y\n" * count)["rows"] == count


# Text


@pytest.mark.parametrize(
    "text",
    ["one line", "a\nb c\n", "  \n\n", "ä ö\nü\tß\n\nlast", "word " * 500_000, "x" * 2_500_000],
)
def test_text_is_counted_as_wc_counts_it(text, tmp_path):
    (tmp_path / "text").write_text(text, encoding="utf-8")
    told = subprocess.run(
        ["wc", "-l", "-w", "text"],
        cwd=tmp_path,
        env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    breaks, words = map(int, told.stdout.split()[:2])

    found = profile("notes.txt", text.encode())

    unfinished = not text.endswith("\n")
    assert (found["lines"], found["words"]) == (breaks + unfinished, words)
    assert found["characters"] == len(text)


def test_a_character_may_lie_across_two_blocks(monkeypatch):
    monkeypatch.setattr(reading, "BLOCK", 3)

    assert profile("a.txt", "ä€😀 ö\r\nü".encode()) == {
        "type": "text/plain",
        "encoding": "utf-8",
        "lines": 2,
        "words": 3,
        "characters": 7,
    }


# PDF


def test_pages_are_counted_as_pypdf_counts_them():
    writer = PdfWriter()
    for _ in range(37):
        writer.add_blank_page(100, 100)
    written = io.BytesIO()
    writer.write(written)

    assert profile("a.pdf", written.getvalue()) == {
        "type": "application/pdf",
        "encrypted": False,
        "pages": 37,
    }


@pytest.mark.parametrize(("password", "pages"), [("", 2), ("secret", None)])
def test_an_encrypted_pdf_is_counted_unless_it_needs_a_password(password, pages):
    writer = PdfWriter()
    writer.add_blank_page(100, 100)
    writer.add_blank_page(100, 100)
    writer.encrypt(password, "owner", algorithm="RC4-128")
    written = io.BytesIO()
    writer.write(written)

    found = profile("a.pdf", written.getvalue())

    assert (found["encrypted"], found["pages"]) == (True, pages)


def zip_bomb():
    """Return a PDF whose pages are in an object stream of 300 MB that fits into 300 kB."""
    packed = zlib.compress(b"2 0 <</Type/Pages/Kids[]/Count 0>>" + bytes(300_000_000), 9)
    stream = b"<</Type/ObjStm/N 1/First 4/Filter/FlateDecode/Length %d>>stream\n" % len(packed)
    body = b"%%PDF-1.5\n1 0 obj\n%s\nendobj\n3 0 obj\n%s%s\nendstream\nendobj\n" % (
        CATALOGUE,
        stream,
        packed,
    )
    at = len(body)
    entries = b"".join(
        struct.pack(">BIH", *entry)
        for entry in [
            (0, 0, 65535),
            (1, 9, 0),
            (2, 3, 0),
            (1, body.index(b"3 0 obj"), 0),
            (1, at, 0),
        ]
    )
    return body + (
        b"4 0 obj\n<</Type/XRef/Size 5/W[1 4 2]/Root 1 0 R/Length %d>>stream\n%s\nendstream\nendobj\n"
        b"startxref\n%d\n%%%%EOF" % (len(entries), entries, at)
    )


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"%PDF-1.7\nnothing else", id="nothing"),
        pytest.param(document(CATALOGUE, b"<</Kids[2 0 R]/Count 1>>"), id="into itself"),
        pytest.param(
            document(CATALOGUE, b"<</Kids[3 0 R 3 0 R]>>", b"<</Kids[4 0 R 4 0 R]>>", b"<<>>"),
            id="billion laughs",
        ),
        pytest.param(document(CATALOGUE, b"<</Kids[" + b"<<>>" * 250_000 + b"]>>"), id="many"),
        pytest.param(document(CATALOGUE, b"[" * 50_000), id="deep"),
        pytest.param(document(b"<<>>", b"<<>>"), id="no tree"),
        pytest.param(document(CATALOGUE, b"42"), id="no dictionary"),
        pytest.param(document(CATALOGUE, b"<</Kids 7>>", b"<<>>"), id="no list"),
        pytest.param(zip_bomb(), id="zip bomb"),
    ],
)
def test_a_pdf_that_is_damaged_or_a_bomb_says_so(data):
    with pytest.raises(UnusableFile):
        profile("a.pdf", data)


def test_a_pdf_too_large_to_be_repaired_is_not_tried(monkeypatch):
    monkeypatch.setattr(pdf, "LARGEST", 100)

    with pytest.raises(UnusableFile, match="up to 100"):
        profile("a.pdf", b"%PDF-1.7\n" + bytes(200))


# Content and name


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.zip", b"PK\x03\x04" + bytes(100), "application/zip"),
        ("a.docx", b"PK\x03\x04" + bytes(100), "application/zip"),
        ("a.exe", b"MZ" + bytes(100), "application/x-msdownload"),
        ("a.bin", bytes(range(256)), "application/octet-stream"),
        ("MZ.txt", b"MZ is how some texts begin", "text/plain"),
        ("BM.csv", b"BMW,Audi\nx,y\n", "text/csv"),
        ("README", b"# Read me", "text/plain"),
        ("page.html", b"<html>", "text/plain"),
        ("a.txt", b"a,b\n1,2\n", "text/plain"),
    ],
)
def test_the_type_is_found_in_the_content(name, data, kind):
    assert profile(name, data)["type"] == kind


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("report.pdf", picture("PNG")),
        ("photo.jpg", picture("PNG")),
        ("photo.png", b"<script>alert(1)</script>"),
        ("table.csv", b"%PDF-1.7\n"),
        ("table.csv", bytes(range(256))),
        ("table.csv", b"a,b\n1,\0\n"),
        ("notes.txt", b"MZ" + bytes(100)),
        ("notes.txt", "ä".encode() + b"\xff\x81"),
        ("image.gif.PNG", picture("GIF", "P")),
    ],
)
def test_a_name_that_says_something_else_than_the_content_is_a_fault(name, data):
    with pytest.raises(UnusableFile, match=re.escape(repr(name)) + ".*stands for"):
        profile(name, data)


def test_content_that_has_changed_in_the_storage_is_a_fault():
    with pytest.raises(UnusableFile, match="damaged or changed"):
        looked_at("a.txt", b"changed", digest=hashlib.sha256(b"as sent").hexdigest())


def test_the_limit_of_pixels_keeps_memory_below_what_a_worker_has():
    assert image.MOST_PIXELS * 4 <= 200_000_000
