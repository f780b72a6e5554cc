"""What is tried again, after which pause, and what is said when it is given up."""

import json
from email.utils import formatdate
from types import SimpleNamespace

import httpx2
import pytest
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from memevit.errors import UserError
from memevit.hub import retry


def answered(status, headers=None, body=b"{}"):
    response = httpx2.Response(status, headers=headers, content=body, request=httpx2.Request("POST", "https://hub/x"))
    return HfHubHTTPError("no", response=response)


def failing(*errors, then="done"):
    remaining = list(errors)

    def action():
        if remaining:
            raise remaining.pop(0)
        return then

    return action


@pytest.fixture
def waits():
    return []


@pytest.fixture
def patience(waits):
    return retry.Patience(attempts=3, sleep=waits.append)


PASSING = [
    answered(503), answered(429), answered(408), httpx2.ReadError("reset"), httpx2.ConnectTimeout("slow"),
    ConnectionResetError("reset"), json.JSONDecodeError("no JSON", "<html>", 0),
]  # fmt: skip


@pytest.mark.parametrize("error", PASSING)
def test_what_passes_is_tried_again(patience, waits, error):
    assert patience.call("asking", failing(error)) == "done"
    assert waits == [1.0]


LASTING = [answered(401), answered(403), answered(404), answered(412), OfflineModeIsEnabled("off"), ValueError("bad")]


@pytest.mark.parametrize("error", LASTING)
def test_what_lasts_is_said_at_once(patience, waits, error):
    with pytest.raises(UserError, match="^Failed at asking"):
        patience.call("asking", failing(error))
    assert waits == []


def test_a_bug_keeps_its_traceback(patience):
    with pytest.raises(ZeroDivisionError):
        patience.call("asking", failing(ZeroDivisionError("bug")))


def test_an_error_inside_another_counts(patience, waits):
    outer = RuntimeError("Error while uploading")
    outer.__cause__ = answered(503)
    assert patience.call("sending", failing(outer)) == "done"
    assert waits == [1.0]


def test_what_had_worked_is_not_repeated(patience, waits):
    found = patience.call("tagging", failing(httpx2.ReadError("lost"), then="twice"), look=lambda: "found")
    assert (found, waits) == ("found", [])
    again = patience.call("tagging", failing(httpx2.ReadError("lost")), look=lambda: None)
    assert (again, waits) == ("done", [1.0])


@pytest.mark.parametrize(
    ("status", "headers", "expected_s"),
    [
        (429, {"Retry-After": "7"}, 7.0),
        (503, {"Retry-After": "7"}, 7.0),
        (429, {"Retry-After": formatdate(0, usegmt=True)}, 0.0),
        (429, {"RateLimit": '"api";r=0;t=33'}, 33.0),
        (429, {"RateLimit": '"api";r=5;t=33'}, None),
        (503, {"RateLimit": '"api";r=0;t=33'}, None),
        (503, {"Retry-After": "in a while"}, None),
        (503, {}, None),
    ],
)
def test_the_pause_is_the_one_that_was_asked_for(status, headers, expected_s):
    assert retry.requested_wait_s(answered(status, headers)) == expected_s


def test_the_reason_is_what_the_hub_says_and_never_a_signature():
    assert retry.reason(answered(402, {"X-Error-Message": "Payment\nrequired"})) == (
        "the Hub answered 402 (Payment required)"
    )
    assert retry.reason(answered(500, body=b'{"error": "out of order"}')) == "the Hub answered 500 (out of order)"
    assert retry.reason(answered(500, body=b"<html>")) == "the Hub answered 500"
    assert "secret" not in retry.reason(OSError("PUT https://store/x?signature=secret failed"))
    assert retry.reason(KeyError()) == "KeyError"


def test_only_trouble_without_an_answer_is_that_of_xet():
    assert retry.is_from_xet(ConnectionError("404 xet-write-token"))
    assert not retry.is_from_xet(answered(403))
    assert not retry.is_from_xet(httpx2.ReadError("reset"))


def test_a_response_of_another_library_is_read_too():
    error = OSError("x")
    error.response = SimpleNamespace(status_code=503, headers={})
    assert retry.status_of(error) == 503


def test_the_limits_outlive_the_client_that_they_were_set_on():
    import huggingface_hub
    from huggingface_hub.utils import get_session
    from huggingface_hub.utils._http import default_client_factory

    huggingface_hub.set_client_factory(retry.client_factory)
    try:
        first = get_session()
        huggingface_hub.close_session()  # As the client does after a refused connection.
        again = get_session()
    finally:
        huggingface_hub.set_client_factory(default_client_factory)
    assert again is not first
    assert again.timeout == httpx2.Timeout(retry.TIMEOUT_S)
    assert len(again.event_hooks["response"]) == 1


def test_after_a_quarter_of_an_hour_of_failures_the_next_request_is_refused():
    times = iter([0.0, 60.0, 890.0, 960.0, 961.0])
    limits = retry._Limits(clock=lambda: next(times))
    request = httpx2.Request("GET", "https://hub/x")
    for _ in range(3):  # Without an answer: the connection fails. The first retry is at 0, this one at 890 s.
        limits.before(request)
    with pytest.raises(UserError, match="has not answered for 15 minutes"):
        limits.before(request)


def test_a_success_ends_the_trouble():
    limits = retry._Limits(clock=iter([0.0, 800.0, 1000.0]).__next__)
    request = httpx2.Request("GET", "https://hub/x")
    limits.before(request)
    limits.after(httpx2.Response(503, request=request, stream=httpx2.ByteStream(b"")))
    limits.before(request)
    limits.after(httpx2.Response(200, request=request))
    limits.before(request)  # Asks the clock no more.


def test_one_request_is_not_tried_again_for_longer_than_the_limit(waits):
    clock = iter([0.0, 0.0, 500.0, 600.0, 700.0]).__next__
    patience = retry.Patience(longest_trouble_s=550.0, sleep=waits.append, clock=clock)
    with pytest.raises(UserError, match="after 2 tries"):
        patience.call("asking", failing(*[answered(503)] * 6))
    assert waits == [1.0]


def test_what_runs_too_long_is_aborted_and_ctrl_c_gets_through():
    import signal
    import threading

    ended = threading.Event()
    with pytest.raises(TimeoutError, match="no end after 0 s"):
        retry.within(0.1, lambda: ended.wait(60), abort=ended.set)
    assert ended.is_set()
    ended.clear()
    threading.Timer(0.3, lambda: signal.raise_signal(signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        retry.within(60, lambda: ended.wait(60), abort=ended.set)
    assert ended.is_set()
    assert retry.within(60, lambda: 7, abort=ended.set) == 7
    with pytest.raises(ZeroDivisionError):
        retry.within(60, lambda: 1 / 0, abort=ended.set)
