import pytest
import shop
from fastapi.testclient import TestClient


@pytest.fixture
def book(tmp_path, monkeypatch):
    """Return what is in the book."""
    monkeypatch.setattr(shop, "BOOKS", tmp_path)
    return lambda: (tmp_path / "book").read_text().splitlines()


@pytest.fixture
def client():
    with TestClient(shop.app) as client:
        yield client
