from service.problems import KINDS
from service.settings import Settings
from tests.service.running import Running


def test_every_route_is_described_with_an_example_for_every_status(toy: Running) -> None:
    document = toy.client.get("/openapi.json").json()
    assert set(document["paths"]) == {
        "/restore",
        "/reference-sets/{id}",
        "/models",
        "/health",
        "/livez",
        "/readyz",
        "/startupz",
        "/metrics",
    }
    assert "HTTPValidationError" not in document["components"]["schemas"], "this service answers with problems alone"
    seen = set()
    for path in document["paths"].values():
        for operation in path.values():
            assert operation["summary"] and operation["description"]
            for status, response in operation["responses"].items():
                content = response.get("content", {})
                assert status == "204" or any({"example", "examples"} & set(each) for each in content.values())
                for name, example in content.get("application/problem+json", {}).get("examples", {}).items():
                    assert example["value"]["status"] == KINDS[name].status
                    assert status in ("default", str(KINDS[name].status))
                    seen.add(name)
    everywhere = {"not-found", "method-not-allowed"}
    assert seen == set(KINDS) - everywhere


def test_the_form_of_restore_is_described(toy: Running) -> None:
    operation = toy.client.get("/openapi.json").json()["paths"]["/restore"]["post"]
    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert form["image"]["format"] == "binary"
    assert form["faces"]["enum"] == ["largest", "all", "aligned"]
    assert set(operation["responses"]["200"]["content"]) == {
        "image/png",
        "image/jpeg",
        "image/webp",
        "application/json",
        "multipart/mixed",
    }
    assert {"200", "400", "401", "404", "406", "408", "413", "415", "422", "429", "500", "503", "504"} <= set(
        operation["responses"]
    )


def test_health_tells_the_limits(toy: Running) -> None:
    limits = toy.client.get("/health").json()["limits"]
    assert limits["file_bytes"] == Settings().max_file_bytes
    kinds = {name: type(limit) for name, limit in limits.items()}
    assert kinds == {
        "file_bytes": int,
        "request_bytes": int,
        "megapixels": float,
        "references": int,
        "faces": int,
        "timeout_seconds": float,
    }
