"""A small server on the loopback, in the place of the sources of CIFAR-10, with all that goes wrong there."""

import contextlib
import http.server
import io
import socket
import ssl
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass
class Source:
    """A server on the loopback that behaves as `mode` says, and keeps the ranges and passwords that it was sent."""

    archive: bytes
    mode: str = "ranges"
    asked: list = field(default_factory=list)
    credentials: list = field(default_factory=list)
    url: str = ""
    elsewhere: str = ""

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        self.asked.append(request.headers["Range"])
        self.credentials.append(request.headers["Authorization"])
        data, status, headers, keep = self.archive, 200, {}, None
        start = int((request.headers["Range"] or "bytes=0-")[6:-1])
        if self.mode == "404":
            return request.send_error(404)
        if self.mode == "redirect" and request.path != "/there":
            request.send_response(302)
            request.send_header("Location", "/there")
            return request.end_headers()
        if self.mode == "redirect away":
            request.send_response(302)
            request.send_header("Location", self.elsewhere)
            return request.end_headers()
        if self.mode == "corrupt":
            data = bytes(len(data) // 2) + data[len(data) // 2 :]
        if self.mode == "web page":
            data = b"<html>please log in</html>"
        if self.mode == "longer":
            data += b"more"
        if start and self.mode != "no ranges":
            if start >= len(data):
                return request.send_error(416)
            shown = start + 1 if self.mode == "other range" else start
            data, status, headers = data[start:], 206, {"Content-Range": f"bytes {shown}-{len(data) - 1}/{len(data)}"}
        if self.mode == "breaks off":
            keep = len(data) // 2
        request.send_response(status)
        if self.mode != "no length":
            headers["Content-Length"] = str(len(data))
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        if self.mode == "silent":
            request.wfile.write(data[:1000])
            request.wfile.flush()
            time.sleep(20)
            return None
        request.wfile.write(data[:keep])
        return None


@contextlib.contextmanager
def loopback() -> Iterator[Callable[..., Source]]:
    """Starts sources: `serve(archive, 'ranges')`, `serve(archive, '404')`, ...; stops them at the end."""
    servers = []

    def start(archive: bytes, mode: str = "ranges", context: ssl.SSLContext | None = None) -> Source:
        source = Source(archive, mode)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                with contextlib.suppress(ConnectionError):
                    source.answer(self)

            def log_message(self, *arguments):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        source.url = f"http{'s' if context else ''}://127.0.0.1:{server.server_port}/archive.tar.gz"
        return source

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def pack(files: dict[str, bytes], folder: str = "cifar-10-batches-py") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def closed_port() -> str:
    """A URL on the loopback at whose port no server listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/archive.tar.gz"
