"""The service, by a real server on the loopback."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

import mars_pyg
from mars_pyg.serving import export

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")

LIMITS = {"max_k": 50, "max_history": 20, "max_filter_values": 4, "max_body": 2000}


@pytest.fixture(scope="module")
def served(recommender, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    export(recommender, data, folder, k=0, progress=False)
    return mars_pyg.load(folder)


@pytest.fixture(scope="module")
def address(served):
    from mars_pyg.serving.service import Limits, create_app

    config = uvicorn.Config(create_app(served, Limits(**LIMITS)), log_level="error")
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        deadline = time.monotonic() + 30
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield listener.getsockname()
        server.should_exit = True
        thread.join(timeout=30)


def request(address, method, path, body=None, content_type="application/json"):
    """The status and the answer."""
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    call = urllib.request.Request(
        f"http://{address[0]}:{address[1]}{path}",
        body,
        {"Content-Type": content_type} if body is not None else {},
        method=method,
    )
    try:
        with urllib.request.urlopen(call, timeout=30) as answer:
            status, text = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read().decode()
    return status, json.loads(text) if text.startswith(("{", "[")) else text


def as_json(items):
    return [
        {
            "item": item.item,
            "title": item.title,
            "score": item.score,
            "shared": [
                {"factor": s.factor, "value": s.value, "count": s.count}
                for s in item.shared
            ],
        }
        for item in items
    ]


def test_answers_are_those_of_the_library(address, served, data):
    user, items = data["user"].id[3], data["item"].id
    for body, expected in (
        ({"user": user}, served.recommend(user)),
        ({"user": user, "k": 3}, served.recommend(user, 3)),
        ({"history": items[:4]}, served.recommend(items[:4])),
        ({"history": []}, served.recommend([])),
        (
            {"history": items[:4], "k": 50, "exclude_history": False},
            served.recommend(items[:4], 50, exclude_history=False),
        ),
        (
            {"user": user, "filters": {"color": ["red", "blue"], "style": "vintage"}},
            served.recommend(
                user, filters={"color": ["red", "blue"], "style": "vintage"}
            ),
        ),
    ):
        status, answer = request(address, "POST", "/recommend", body)
        assert status == 200
        assert answer == {"recommendations": as_json(expected)}
    status, answer = request(address, "GET", f"/items/{items[7]}")
    assert status == 200
    described = served.item(items[7])
    assert answer == {
        "item": items[7],
        "title": described.title,
        "values": described.values,
    }
    status, answer = request(address, "GET", "/health")
    assert (status, answer) == (
        200,
        {"status": "ok", "num_users": 150, "num_items": 80},
    )


def test_many_requests_at_once(address, served, data):
    def body(number):
        if number % 2:
            return {"user": data["user"].id[number % 150], "k": 5}
        items = [data["item"].id[(number * 7 + j) % 80] for j in range(number % 6)]
        return {"history": items, "k": 5, "filters": {"color": ["red", "blue"]}}

    def expected(asked):
        who = asked.get("user", asked.get("history"))
        return as_json(served.recommend(who, 5, asked.get("filters")))

    bodies = [body(number) for number in range(200)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(
            pool.map(lambda b: request(address, "POST", "/recommend", b), bodies)
        )
    for asked, (status, answer) in zip(bodies, answers, strict=True):
        assert status == 200
        assert answer == {"recommendations": expected(asked)}


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"user": "nobody"}, 404, "there is no user 'nobody'"),
        ({"history": ["thing"]}, 422, "there is no item 'thing'"),
        ({"history": [], "filters": {"size": ["M"]}}, 422, "no factor 'size'"),
        ({"history": [], "filters": {"color": ["rad"]}}, 422, "such as ['red']"),
        ({"history": [], "filters": {"color": ["red"] * 5}}, 422, "5, and may be 4"),
        ({"history": [], "k": 51}, 422, "k is 51, and may be 50"),
        ({"history": ["I01"] * 21}, 422, "history is 21, and may be 20"),
        ({"history": [], "k": 0}, 422, "greater than or equal to 1"),
        ({"history": [], "k": "many"}, 422, "valid integer"),
        ({"history": "I01"}, 422, "valid list"),
        ({"history": [], "user": "U001"}, 422, "either 'user' or 'history'"),
        ({}, 422, "either 'user' or 'history'"),
        ({"history": [], "top": 3}, 422, "Extra inputs are not permitted"),
        ([], 422, "valid dictionary"),
        (b"{'history'", 422, "JSON"),
        (b"", 422, "required"),
        (b'{"history": [], "k": NaN}', 422, "finite number"),
        (b'{"history": [], "k": 1e400}', 422, "finite number"),
        (b'{"user": -Infinity}', 422, "valid string"),
        (b'{"history": [], "top": NaN}', 422, "not permitted"),
        (b'{"history": [], "filters": {"\\ud800": 1}}', 422, "valid string"),
        (b'"\xff"', 400, "parsing the body"),
        (b"[" * 2000, 400, "parsing the body"),
        ({"history": ["x" * 3000]}, 413, "more than 2000 bytes"),
    ],
)
def test_bad_requests(address, body, status, message):
    found, answer = request(address, "POST", "/recommend", body)
    assert found == status
    assert message in json.dumps(answer["detail"])


def test_other_bad_requests(address, data):
    assert request(address, "POST", "/recommend", b"\xff\xfe")[0] in (400, 422)
    assert request(address, "GET", "/items/thing")[0] == 404
    assert request(address, "GET", "/items/a/b%2Fc")[1] == {
        "detail": "there is no item 'a/b/c'"
    }
    assert request(address, "GET", "/recommend")[0] == 405
    assert request(address, "GET", "/nowhere")[0] == 404
    assert request(address, "POST", "/recommend", {"history": []}, "text/plain")[0] in (
        200,
        422,
    )
    # It is still up.
    assert request(address, "GET", "/health")[0] == 200


def test_a_body_of_unknown_length_is_bounded(address):
    connection = http.client.HTTPConnection(*address, timeout=30)
    chunks = (b" " * 500 for _ in range(20))
    connection.request(
        "POST",
        "/recommend",
        chunks,
        {"Content-Type": "application/json"},
        encode_chunked=True,
    )
    answer = connection.getresponse()
    assert answer.status == 413
    assert "2000 bytes" in answer.read().decode()
    connection.close()


def count(address, path, status):
    """How many requests of a path had a status."""
    text = request(address, "GET", "/metrics")[1]
    for line in text.splitlines():
        labels = f'path="{path}",status="{status}"'
        if line.startswith("http_requests_total{") and labels in line:
            return float(line.split()[-1])
    return 0.0


def test_what_is_wrong_is_said_without_what_was_given(address):
    _, answer = request(address, "POST", "/recommend", {"history": [], "k": 0})
    (problem,) = answer["detail"]
    assert set(problem) == {"type", "loc", "msg"}
    assert problem["loc"] == ["body", "k"]


def test_a_failure_of_the_service_is_counted(address, served, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("something is broken")

    before = count(address, "/recommend", 500)
    with monkeypatch.context() as patch:
        patch.setattr(served, "recommend", fail)
        assert request(address, "POST", "/recommend", {"history": []})[0] == 500
    assert count(address, "/recommend", 500) == before + 1
    assert request(address, "POST", "/recommend", {"history": []})[0] == 200


def test_metrics(address):
    before = count(address, "/recommend", 200), count(address, "/recommend", 404)
    request(address, "POST", "/recommend", {"history": []})
    request(address, "POST", "/recommend", {"history": []})
    request(address, "POST", "/recommend", {"user": "nobody"})
    assert count(address, "/recommend", 200) == before[0] + 2
    assert count(address, "/recommend", 404) == before[1] + 1
    request(address, "GET", "/items/some-id")
    request(address, "GET", "/some-path")
    text = request(address, "GET", "/metrics")[1]
    assert "http_request_duration_seconds_bucket" in text
    # No label holds what a client has made up.
    assert "some-id" not in text
    assert request(address, "INVENTED", "/recommend")[0] == 405
    text = request(address, "GET", "/metrics")[1]
    assert "INVENTED" not in text
    assert 'method="other",path="/recommend",status="405"' in text
    assert "some-path" not in text
