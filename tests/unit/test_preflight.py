"""Faults that are found before anything is started, and what they advise."""

from __future__ import annotations

import socket
import sys

import pytest

from postlude.errors import SettingsError
from postlude.settings import load
from postlude.supervisor.preflight import check_folder, check_parts, choose_port


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_folder_is_made_where_none_is(tmp_path):
    settings = load(data_dir=tmp_path / "a" / "b")

    check_folder(settings)
    check_folder(settings)

    assert [path.name for path in settings.data_dir.rglob("*")] == ["run"]


def test_a_file_in_the_folder_s_place_is_refused_by_name(tmp_path):
    (tmp_path / "var").write_text("")

    with pytest.raises(SettingsError, match=r"var cannot be written .*POSTLUDE_DATA_DIR="):
        check_folder(load(data_dir=tmp_path / "var"))


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, where nobody may make anything")
@pytest.mark.parametrize("folder", ["/proc/postlude", "/proc"])
def test_a_folder_that_takes_no_files_is_refused_by_name(folder):
    with pytest.raises(SettingsError, match=rf"{folder} cannot be written"):
        check_folder(load(data_dir=folder))


def test_a_taken_port_is_refused_with_another_to_try(taken):
    with pytest.raises(SettingsError, match=rf"port {taken} .*taken.*POSTLUDE_PORT={taken + 1}"):
        choose_port(load(port=taken))


def test_a_taken_port_is_replaced_where_any_will_do(taken):
    assert choose_port(load(port=taken), another=True) not in {taken, 0}


def test_port_0_means_any_free_one():
    assert choose_port(load(port=0)) > 0


def test_an_address_that_is_not_ours_is_refused():
    with pytest.raises(SettingsError, match="POSTLUDE_HOST must be an address of this machine"):
        choose_port(load(host="192.0.2.1"))


def test_a_folder_without_the_application_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [path for path in sys.path if "site-packages" in path])
    monkeypatch.setattr(
        sys,
        "modules",
        {
            name: module
            for name, module in sys.modules.items()
            if name.split(".")[0] not in {"api", "actors", "scheduler"}
        },
    )

    with pytest.raises(SettingsError, match=r"no package api, actors, scheduler in"):
        check_parts(tmp_path)
