"""The server as an attacker meets it, over plain sockets, and as a page does."""

import http.client
import json
import threading
import time

import pytest

from edgeseg.core.errors import EdgesegError
from edgeseg.transports import visitor as visitor_module
from edgeseg.transports.http import GUEST, MAX_BODY, MAX_VISITORS, Resource, Server, Settings
from edgeseg.transports.visitor import Reloaded, VisitorGone, VisitorSilent
from tests.conftest import skip

SECRET = b"nobody may read this"


@pytest.fixture
def place(tmp_path, need):
    need("aiohttp", "pip install 'edgeseg[browser]'", what="browser")
    (tmp_path / "secret.txt").write_bytes(SECRET)
    served = tmp_path / "served"
    served.mkdir()
    (served / "page.js").write_bytes(b"// the page")
    (served / "model.bin.gz").write_bytes(SECRET)  # not in the table either
    return tmp_path


@pytest.fixture
def server(place):
    visitors = []
    resources = {
        "/": Resource(b"<!doctype html>", "text/html"),
        "/page.js": Resource(place / "served/page.js", "text/javascript", lasting=True),
    }
    made = Server(resources, Settings(), joined=visitors.append)
    made.visitors = visitors
    made.greet({"hello": "page"})
    yield made
    made.close()


def ask(server, path, method="GET", body=None, token=None, host=None, **headers):
    """One request with the path as it stands; the token is the right one unless another is given."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    connection.putheader("Host", host or f"127.0.0.1:{server.port}")
    if token != "":
        connection.putheader("Authorization", f"Bearer {server.token if token is None else token}")
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    if body:
        connection.send(body)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content, response.headers


WAYS = [
    "/../secret.txt", "/../../secret.txt", "/./../secret.txt", "/served/../secret.txt", "/page.js/../../secret.txt",
    "/page.js/../secret.txt", "//secret.txt", "///secret.txt", "//../secret.txt", "/..//secret.txt", "/....//secret.txt",
    "/..;/secret.txt", "/;/../secret.txt", "/%2e%2e/secret.txt", "/%2E%2E/secret.txt", "/.%2e/secret.txt",
    "/%2e./secret.txt", "/..%2fsecret.txt", "/..%2Fsecret.txt", "/%2e%2e%2fsecret.txt", "/..%5csecret.txt",
    "/..\\secret.txt", "/\\..\\secret.txt", "/%5c..%5csecret.txt", "/%252e%252e/secret.txt", "/%252e%252e%252fsecret.txt",
    "/%c0%ae%c0%ae/secret.txt", "/%c0%ae%c0%ae%c0%afsecret.txt", "/%uff0e%uff0e/secret.txt", "/..%00/secret.txt",
    "/page.js%00/../secret.txt", "/page.js%00.txt", "/page.js?../secret.txt/../../secret.txt&x=/../secret.txt#",
    "/secret.txt", "/served/page.js", "/served", "/served/", "/.", "/..", "/api/../secret.txt", "/api/file/../../secret.txt",
    "/api/file/..%2f..%2fsecret.txt", "/api/file/%2e%2e/%2e%2e/secret.txt", "/api/file/", "/api/file/x", "/api/",
    "/runtime/../secret.txt", "/etc/passwd", "//etc/passwd", "/proc/self/environ", "/file:///etc/passwd",
    "http://127.0.0.1/../secret.txt", "/~root/.ssh/id_rsa", "/.git/config", "/served/model.bin", "/served/model.bin.gz",
    "/page.js.gz", "/page.js/", "/PAGE.JS", "/%70age.js", "/ABSOLUTE",
]  # fmt: skip


def test_nothing_outside_the_table_can_be_read(server, place):
    ways = [way.replace("ABSOLUTE", str(place / "secret.txt")) for way in WAYS]
    assert len(set(ways)) >= 50
    seen = {}
    for way in ways:
        status, content, _ = ask(server, way)
        assert SECRET not in content, way
        assert b"root:" not in content, way
        seen[way] = status
    allowed = {"/page.js?../secret.txt/../../secret.txt&x=/../secret.txt#": 200}  # the query is no part of the path
    wrong = {way: status for way, status in seen.items() if status not in (403, 404, 421) and way not in allowed}
    assert wrong == {}
    assert {way: seen[way] for way in allowed} == allowed


@pytest.mark.parametrize("token", ["", "x", "ab" * 16])
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/welcome"), ("POST", "/api/join"), ("GET", "/api/orders?life=1&after=0"),
     ("POST", "/api/answer?life=1&serial=1"), ("POST", "/api/gone?life=1"), ("GET", "FILE")],
)  # fmt: skip
def test_a_wrong_token_is_refused(server, method, path, token):
    path = path.replace("FILE", server.offer(SECRET))
    status, content, _ = ask(server, path, method, b"{}" if method == "POST" else None, token=token)
    assert status == 403
    assert SECRET not in content
    assert server.visitors == []


def test_a_token_that_is_nearly_right_is_refused(server):
    for token in (server.token[:-1], server.token + "x", server.token.swapcase(), "é" + server.token[1:]):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", "/api/welcome", headers={"Authorization": f"Bearer {token}".encode()})
        assert connection.getresponse().status == 403
        connection.close()
    assert ask(server, f"/api/welcome?t={server.token}", token="")[0] == 403, "it counts in its header only"
    assert ask(server, "/api/welcome")[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1:{port}.evil.example", "[::1]:{port}", "0.0.0.0:{port}", "a@127.0.0.1:{port}"],
)  # fmt: skip
def test_another_host_is_misdirected(server, host):
    for path in ("/", "/page.js", "/api/welcome"):
        status, content, _ = ask(server, path, host=host.format(port=server.port))
        assert status == 421
        assert content == b""


def test_localhost_is_this_host_too(server):
    assert ask(server, "/", host=f"localhost:{server.port}")[0] == 200


def test_a_foreign_origin_is_refused(server):
    assert ask(server, "/api/join", "POST", b"{}", Origin="https://evil.example")[0] == 403
    assert ask(server, "/api/join", "POST", b"{}", Origin="null")[0] == 403
    assert ask(server, "/api/welcome", Origin=server.origin)[0] == 200


def test_large_bodies_are_refused(server):
    status, _, headers = ask(server, "/api/join", "POST", b"x" * (MAX_BODY + 1))
    assert status == 413
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert server.visitors == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"])
def test_other_methods_do_nothing(server, method):
    assert ask(server, "/page.js", method)[0] == 404
    assert ask(server, "/api/welcome", method)[0] == 404


def test_every_answer_has_the_headers(server, place):
    for path, token in (("/", None), ("/page.js", None), ("/nothing", None), ("/api/welcome", "x")):
        headers = ask(server, path, token=token)[2]
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "http" not in headers["Content-Security-Policy"], "no remote source"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    other = Server({}, Settings(isolated=False), joined=lambda visitor: None)
    assert "Cross-Origin-Opener-Policy" not in ask(other, "/")[2]
    other.close()


def test_the_link_has_the_token_behind_the_hash(server):
    assert server.link == f"http://127.0.0.1:{server.port}/#t={server.token}"
    assert len(server.token) >= 32, "at least 192 bits"
    second = Server({}, Settings(), joined=lambda visitor: None)
    assert second.token != server.token
    second.close()


def test_a_taken_port_is_said(server):
    with pytest.raises(EdgesegError, match=f"no server can be started at 127.0.0.1 port {server.port}"):
        Server({}, Settings(port=server.port), joined=lambda visitor: None)


def test_the_server_ends(server):
    port = server.port
    server.close()
    server.close()
    with pytest.raises(OSError):
        http.client.HTTPConnection("127.0.0.1", port, timeout=2).request("GET", "/")


def test_a_withdrawn_file_is_gone(server):
    path = server.offer(b"content")
    assert ask(server, path)[1] == b"content"
    server.withdraw(path)
    assert ask(server, path)[0] == 404


class Page:
    """What the page's client does."""

    def __init__(self, server):
        self.server, self.secret, self.after, self.serial = server, "", 0, 0
        self.join()

    def join(self):
        status, content, _ = ask(self.server, "/api/join", "POST", b"about", **{GUEST: self.secret})
        assert status == 200, content
        document = json.loads(content)
        self.secret, self.life = document["visitor"], document["life"]
        self.after = self.serial = 0

    def orders(self):
        path = f"/api/orders?life={self.life}&after={self.after}"
        status, content, _ = ask(self.server, path, **{GUEST: self.secret})
        assert status == 200
        found = json.loads(content)["orders"]
        self.after = found[-1]["number"] if found else self.after
        return found

    def answer(self, content, *, again=False):
        self.serial += not again
        path = f"/api/answer?life={self.life}&serial={self.serial}"
        return ask(self.server, path, "POST", content, **{GUEST: self.secret})[0]


def test_orders_and_answers(server):
    page = Page(server)
    (visitor,) = server.visitors
    assert visitor.about == b"about"
    visitor.send({"do": "one"})
    visitor.send({"news": 1}, quiet=True)
    visitor.send({"news": 2}, quiet=True)
    time.sleep(0.05)
    assert [order.get("do") for order in page.orders()] == ["one"], "nobody is woken for news"
    visitor.send({"do": "two"})
    time.sleep(0.05)
    assert [(order.get("do"), order.get("news")) for order in page.orders()] == [(None, 2), ("two", None)]
    assert page.answer(b"first") == 200
    assert page.answer(b"first", again=True) == 200
    assert page.answer(b"second") == 200
    assert visitor.receive(life=1, timeout_s=1) == b"first", "sent twice counts once"
    assert visitor.receive(life=1, timeout_s=1) == b"second"


def test_a_page_waits_for_its_order(server):
    page = Page(server)
    threading.Timer(0.3, server.visitors[0].send, ({"do": "late"},)).start()
    started = time.monotonic()
    assert page.orders()[0]["do"] == "late"
    assert 0.2 < time.monotonic() - started < 5


def test_one_page_cannot_speak_for_another(server):
    one, other = Page(server), Page(server)
    assert one.secret != other.secret
    one.secret = "guess"
    assert one.answer(b"forged") == 403
    one.secret, one.life = other.secret, 7
    assert one.answer(b"forged") == 403
    for wrong in ("life=1", "life=1&serial=-1", "life=1&serial=²", "life=1&serial=9999999999", "life=x&serial=1"):
        path = (
            f"/api/answer?{wrong}".encode().decode("latin-1") if wrong.isascii() else "/api/answer?life=1&serial=%C2%B2"
        )
        assert ask(server, path, "POST", b"x", **{GUEST: other.secret})[0] == 403


def test_a_flood_of_visitors_and_of_answers_is_refused(server):
    page = Page(server)
    statuses = [page.answer(b"x") for _ in range(visitor_module.MAX_PENDING + 1)]
    assert statuses[-1] == 403
    assert set(statuses[:-1]) == {200}
    for _ in range(MAX_VISITORS - 1):
        Page(server)
    assert ask(server, "/api/join", "POST", b"about")[0] == 403


def test_a_visitor_that_is_turned_away(place):
    def refuse(visitor):
        raise EdgesegError("not like this")

    server = Server({}, Settings(), joined=refuse)
    status, content, _ = ask(server, "/api/join", "POST", b"about")
    assert (status, content) == (403, b"not like this")
    server.close()


def test_a_reload_is_a_new_life(server):
    page = Page(server)
    (visitor,) = server.visitors
    visitor.send({"do": "lost"})
    time.sleep(0.05)
    page.answer(b"stale")
    ask(server, f"/api/gone?life={page.life}", "POST", b"", **{GUEST: page.secret})
    page.join()
    assert len(server.visitors) == 1, "it is the same visitor"
    for _ in range(2):
        with pytest.raises(Reloaded):
            visitor.receive(life=1, timeout_s=1)
    visitor.send({"do": "again"})
    assert [order["do"] for order in page.orders()] == ["again"]
    page.answer(b"fresh")
    assert visitor.receive(life=2, timeout_s=1) == b"fresh"


def test_a_closed_page_is_noticed_after_its_grace(server, monkeypatch):
    monkeypatch.setattr(visitor_module, "GRACE_S", 0.3)
    page = Page(server)
    (visitor,) = server.visitors
    ask(server, f"/api/gone?life={page.life}", "POST", b"", **{GUEST: page.secret})
    with pytest.raises(VisitorGone, match="the page was closed"):
        visitor.receive(life=1, timeout_s=30)
    assert visitor.gone


def test_a_silent_page_is_given_up_until_it_speaks(server):
    page = Page(server)
    (visitor,) = server.visitors
    with pytest.raises(VisitorSilent, match="no answer within 0 s"):
        visitor.receive(life=1, timeout_s=0.1)
    assert visitor.gone
    page.answer(b"awake")
    assert not visitor.gone


def test_an_interrupt_wakes_who_waits(server):
    Page(server)
    (visitor,) = server.visitors
    threading.Timer(0.1, visitor.interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        visitor.receive(life=1, timeout_s=30)


def test_https_with_a_certificate_of_its_own(place):
    import ssl

    try:
        from edgeseg.transports import certificate

        made = certificate.make(["127.0.0.1", "localhost"])
    except EdgesegError as error:
        skip("browser", str(error))
    server = Server({"/": Resource(b"hello", "text/html")}, Settings(certificate=made), joined=lambda visitor: None)
    assert server.origin.startswith("https://127.0.0.1:")
    trusting = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=trusting, timeout=10)
    connection.request("GET", "/")
    assert connection.getresponse().read() == b"hello"
    der = connection.sock.getpeercert(binary_form=True)
    connection.close()
    import hashlib

    assert hashlib.sha256(der).hexdigest().upper() == made.fingerprint.replace(":", "")
    strict = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=10)
    with pytest.raises(ssl.SSLCertVerificationError):
        strict.request("GET", "/")
    pinned = ssl.create_default_context(cadata=ssl.DER_cert_to_PEM_cert(der))
    connection = http.client.HTTPSConnection("localhost", server.port, context=pinned, timeout=10)
    connection.request("GET", "/")
    assert connection.getresponse().status == 200, "its name is in the certificate"
    connection.close()
    server.close()
