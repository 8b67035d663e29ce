"""Lines out of bytes, and many processes in one stream."""

from __future__ import annotations

import io
import itertools
import os

from hypothesis import given
from hypothesis import strategies as st

from postlude.supervisor.output import Lines, Output


@given(st.binary(max_size=200), st.lists(st.integers(min_value=0, max_value=200)))
def test_lines_do_not_depend_on_how_they_arrive(data, cuts):
    places = sorted({0, *(cut for cut in cuts if cut <= len(data)), len(data)})
    pieces, whole = Lines(), Lines()

    in_pieces = [
        line for start, end in itertools.pairwise(places) for line in pieces.feed(data[start:end])
    ]

    assert in_pieces + pieces.end() == whole.feed(data) + whole.end()


def test_a_character_that_arrives_in_two_pieces_is_one_character():
    lines = Lines()

    assert lines.feed("ä".encode()[:1]) == []
    assert lines.feed("ä".encode()[1:] + b"\n") == ["ä"]


def test_a_line_without_end_is_cut():
    lines = Lines()

    cut = lines.feed(b"x" * 200_000)

    assert len("".join(cut + lines.end())) == 200_000
    assert max(map(len, cut)) == 64 * 1024


def test_names_stand_in_one_column():
    stream = io.BytesIO()
    output = Output(stream, ["api", "scheduler"])

    output.write("api", ["a"])
    output.write("scheduler", ["b"])

    assert stream.getvalue() == b"api       | a\nscheduler | b\n"


def test_each_name_has_a_colour_where_colours_are_wanted():
    stream = io.BytesIO()

    Output(stream, ["api"], colours=True).write("api", ["a"])

    assert stream.getvalue() == b"\x1b[36mapi |\x1b[0m a\n"


def test_bare_lines_have_no_name():
    stream = io.BytesIO()

    Output(stream, ["api"], bare=True).write("api", ['{"event": "a"}'])

    assert stream.getvalue() == b'{"event": "a"}\n'


def test_a_reader_that_left_is_noticed_and_harms_nobody():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb", 0) as stream:
        output = Output(stream, ["api"])

        output.write("api", ["a"])
        output.write("api", ["b"])

    assert output.broken
