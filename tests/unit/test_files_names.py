"""Names of files: what a client may call one, and what is made of that."""

from __future__ import annotations

import pytest

from actors.files.name import LONGEST, extension, shown


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("report.pdf", "report.pdf"),
        ("Größe 😀.csv", "Größe 😀.csv"),
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("C:\\Windows\\system.ini", "system.ini"),
        ("..\\..\\x.txt", "x.txt"),
        ("a/../b", "b"),
        ("..", "unnamed"),
        (".", "unnamed"),
        ("", "unnamed"),
        ("folder/", "unnamed"),
        ("\0\r\n", "unnamed"),
        ("a\0b\r\nSet-Cookie: c.txt", "abSet-Cookie: c.txt"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("\ud800x.txt", "x.txt"),
        ("  x.txt  ", "x.txt"),
        ("e\u0301.txt", "é.txt"),
        (".bashrc", ".bashrc"),
    ],
)
def test_a_name_is_made_harmless(raw, name):
    assert shown(raw) == name


@pytest.mark.parametrize("raw", ["x" * 5_000 + ".csv", "x" * 5_000])
def test_a_long_name_is_cut_and_keeps_its_extension(raw):
    name = shown(raw)

    assert len(name) == LONGEST
    assert extension(name) == extension(raw)


@pytest.mark.parametrize(
    ("name", "ending"),
    [("a.CSV", "csv"), ("a.tar.gz", "gz"), ("a", ""), (".csv", ""), ("a.", ""), ("", "")],
)
def test_an_extension_is_what_is_behind_the_last_dot(name, ending):
    assert extension(name) == ending
