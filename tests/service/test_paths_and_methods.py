"""Requests that miss a route: by its path, its methods, or where its options belong."""

import pytest

from tests.service.running import ANNA_PHOTO, Running, problem


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/reference-sets/anna", "DELETE, GET, PUT"),
        ("HEAD", "/reference-sets/anna", "DELETE, GET, PUT"),
        ("DELETE", "/livez", "GET, HEAD"),
        ("POST", "/readyz", "GET, HEAD"),
        ("POST", "/", "GET, HEAD"),
        ("PUT", "/openapi.json", "GET, HEAD"),
        ("HEAD", "/health", "GET"),
        ("OPTIONS", "/restore", "POST"),
    ],
)
def test_405_names_every_method_of_the_path(toy: Running, method: str, path: str, allowed: str) -> None:
    response = toy.client.request(method, path)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/restore/"), ("GET", "/health/"), ("GET", "/reference-sets/a/")]
)
def test_a_slash_too_many_leads_nowhere(toy: Running, method: str, path: str) -> None:
    response = toy.client.request(method, path)
    problem(response, "not-found", 404)
    assert "location" not in response.headers


@pytest.mark.parametrize("query", ["faces=all", "seed", "unknown=1"])
def test_options_in_the_query_are_not_passed_over(toy: Running, query: str) -> None:
    response = toy.client.post(f"/restore?{query}", files={"image": ANNA_PHOTO})
    assert "options are parts of the form" in problem(response, "invalid-request", 400)


def test_an_empty_query_is_none(toy: Running) -> None:
    assert toy.client.post("/restore?", files={"image": ANNA_PHOTO}).status_code == 200
