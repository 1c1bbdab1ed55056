"""How a discovery service is asked, by what a server of HTTP hears."""

import contextlib
import http.server
import pathlib
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from typing import Final, cast, final

import pytest

from kvraft.discovery.interfaces import Answer, UnreachableError
from kvraft.start.service_door import ServiceDoor
from kvraft.testing.certificates import Authority

KEY: Final = b'{"action":"get","node":{"key":"/k","value":"3","createdIndex":7}}\n'


@final
class Server:
    """Answers what it is told to, and keeps what it was asked."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        """With TLS, if there is a context for it."""
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.heard: list[tuple[str, dict[str, str], bytes]] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline()
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                server.heard.append((self.requestline, dict(self.headers), body))
                status, headers, data = server.answers.pop(0) if server.answers else (200, {}, KEY)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        """Of a token there."""
        return f"http://127.0.0.1:{self.port}/t"

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    """One for this test."""
    made = Server()
    yield made
    made.close()


def test_requests_are_those_of_etcd_s_client(server: Server) -> None:
    """Its query, its form, its header; what stands behind ? in the URL goes with each."""
    door = ServiceDoor(server.url + "?x=y#z")
    server.answers = [(200, {"X-Etcd-Index": "12"}, KEY), (201, {}, KEY), (200, {}, b"")]
    node = {"key": "/k", "value": "3", "createdIndex": 7}
    assert door.get("/t/_config/size") == Answer(200, {"action": "get", "node": node}, is_empty=False, index=12)
    assert door.create("/t/1f", "n1=http://a:1,n1=http://b:1").status == 201
    assert door.wait("/t", 13, recursive=True) == Answer(200, None, is_empty=True, index=0)
    lines = [line for line, _, _ in server.heard]
    assert lines == [
        "GET /t/_config/size?x=y&quorum=false&recursive=false&sorted=false HTTP/1.1",
        "PUT /t/1f?x=y&prevExist=false HTTP/1.1",
        "GET /t?x=y&recursive=true&wait=true&waitIndex=13 HTTP/1.1",
    ]
    _, headers, body = server.heard[1]
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert body == b"value=n1%3Dhttp%3A%2F%2Fa%3A1%2Cn1%3Dhttp%3A%2F%2Fb%3A1"


def test_redirections_are_followed_with_method_and_body(server: Server) -> None:
    """Relative ones too, and no more than ten."""
    door = ServiceDoor(server.url)
    server.answers = [(307, {"Location": "/u/1f?a=b"}, b""), (302, {"Location": f"{server.url}/2"}, b"")]
    assert door.create("/t/1f", "v").status == 200
    assert [(line.split()[:2], body) for line, _, body in server.heard] == [
        (["PUT", "/t/1f?prevExist=false"], b"value=v"),
        (["PUT", "/u/1f?a=b"], b"value=v"),
        (["PUT", "/t/2"], b"value=v"),
    ]
    server.answers = [(302, {"Location": "/t"}, b"")] * 11
    with pytest.raises(UnreachableError, match=r"^/t/1f: it redirects more than 10 times$"):
        door.get("/t/1f")


@pytest.mark.parametrize("location", ["ftp://a/b", "http://a:x/"])
def test_redirection_to_nowhere_is_no_answer(server: Server, location: str) -> None:
    """Whoever asks may ask again."""
    server.answers = [(302, {"Location": location}, b"")]
    with pytest.raises(UnreachableError):
        ServiceDoor(server.url).get("/t")


def test_proxy_is_asked_for_the_whole_url_and_told_who_asks(server: Server) -> None:
    """RFC 9112, 3.2.2: the service's name is for the proxy to look up."""
    door = ServiceDoor("http://service.invalid/t", f"http://u%40:p@127.0.0.1:{server.port}")
    assert door.get("/t").status == 200
    [(line, headers, _)] = server.heard
    assert line.startswith("GET http://service.invalid/t?quorum=false")
    assert headers["Host"] == "service.invalid"
    assert headers["Proxy-Authorization"] == "Basic dUA6cA=="


def test_service_of_https_is_reached_through_a_tunnel(server: Server) -> None:
    """RFC 9110, 9.3.6; TLS is spoken with the service alone."""
    door = ServiceDoor("https://service.invalid/t", f"http://127.0.0.1:{server.port}")
    server.answers = [(403, {}, b"")]
    with pytest.raises(UnreachableError, match=rf"^https://service.invalid:443 through 127.0.0.1:{server.port}: .*403"):
        door.get("/t")
    [(line, _, _)] = server.heard
    assert line.startswith("CONNECT service.invalid:443 ")


@contextlib.contextmanager
def tunnel_to(port: int) -> Iterator[tuple[int, list[bytes]]]:
    """The port of a proxy that connects whoever asks with one server, and the heads of what it was asked."""
    heads: list[bytes] = []

    class Tunnel(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            heads.append(b"".join(iter(self.rfile.readline, b"\r\n")))
            with socket.create_connection(("127.0.0.1", port)) as service:
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                asked = cast("socket.socket", self.request)
                back = threading.Thread(target=passed_on, args=(service, asked))
                back.start()
                passed_on(asked, service)
                back.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Tunnel) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.01,))
        thread.start()
        yield proxy.server_address[1], heads
        proxy.shutdown()
        thread.join()


def passed_on(source: socket.socket, target: socket.socket) -> None:
    """Until the source ends, or nobody takes it any more."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("host", ["service.invalid", "another.invalid"])
def test_tunnel_leads_to_the_service_whose_certificate_is_judged_by_its_name(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """The proxy looks the name up, is told who asks, and sees nothing of what is asked."""
    ca = Authority(tmp_path)
    served = ca.issue("service", hosts=("service.invalid",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(served.cert_file, served.key_file)
    monkeypatch.setenv("SSL_CERT_FILE", ca.ca_file)
    service = Server(context)
    with contextlib.closing(service), tunnel_to(service.port) as (port, heads):
        door = ServiceDoor(f"https://{host}/t", f"http://u%40:p@127.0.0.1:{port}")
        if host == "service.invalid":
            assert door.get("/t/_config/size").status == 200
            assert door.create("/t/1f", "n1=http://a:1").status == 200
        else:
            with pytest.raises(UnreachableError, match="Hostname mismatch"):
                door.get("/t/_config/size")
    assert heads
    for head in heads:
        assert head.startswith(b"CONNECT %s:443 HTTP/1." % host.encode())
        assert b"\r\nProxy-Authorization: Basic dUA6cA==\r\n" in head
    expected = ["GET /t/_config/size", "PUT /t/1f"] if host == "service.invalid" else []
    assert [line.partition("?")[0] for line, _, _ in service.heard] == expected
    assert not any("Proxy-Authorization" in headers for _, headers, _ in service.heard)


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        ((500, {}, b'{"errorCode":300}'), "it answers 500"),
        ((503, {}, b""), "it answers 503"),
    ],
)
def test_server_in_trouble_is_no_answer(server: Server, answer: tuple[int, dict[str, str], bytes], line: str) -> None:
    """As etcd's client has it, whatever the body says."""
    server.answers = [answer]
    with pytest.raises(UnreachableError) as caught:
        ServiceDoor(server.url).get("/t")
    assert str(caught.value) == f"http://127.0.0.1:{server.port}: {line}"


def test_nobody_there_is_no_answer(server: Server) -> None:
    """Neither through a proxy that is not there."""
    server.close()
    for door in (ServiceDoor(server.url), ServiceDoor("http://service.invalid/t", f"http://127.0.0.1:{server.port}")):
        with pytest.raises(UnreachableError, match="Connection refused"):
            door.get("/t")


def test_body_that_is_no_json_is_left_to_whoever_reads_it(server: Server) -> None:
    """As is an index that is none."""
    server.answers = [(200, {"X-Etcd-Index": "9" * 30}, b"<html>")]
    assert ServiceDoor(server.url).get("/t") == Answer(200, None, is_empty=False, index=0)
