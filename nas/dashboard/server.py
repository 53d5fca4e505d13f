"""Server of a dashboard: optuna-dashboard's application behind a guard, on an address of this machine.

The guard answers only requests that name this machine as their host: a web page of another origin could otherwise
point its own name at 127.0.0.1 and read the run (DNS rebinding). Unless writing is allowed, it refuses every method but
GET and HEAD.
"""

import ipaddress
import socket
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from nas.errors import ConfigError, one_line

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Guard:
    """A WSGI application that hands on only what may reach another one.

    Args:
        application: the other one.
        host: address or name that the server listens on.
        is_writable: whether methods that write are handed on, from pages of this server.
    """

    def __init__(self, application: Application, *, host: str, is_writable: bool) -> None:
        self._application, self._host, self._is_writable = application, host, is_writable

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        if not self._is_own_host(environ.get("HTTP_HOST", "")):
            return _refuse(start_response, "421 Misdirected Request", "the Host header must name this server")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            if not self._is_writable:
                message = "this view is read-only; nas dashboard --writable serves the study itself"
                return _refuse(start_response, "405 Method Not Allowed", message, ("Allow", "GET, HEAD"))
            origin = environ.get("HTTP_ORIGIN")
            if origin is not None and urlsplit(origin).netloc != environ["HTTP_HOST"]:
                return _refuse(start_response, "403 Forbidden", "the page of another origin must not write")

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            # optuna-dashboard lets pages of any origin read artifacts.
            kept = [h for h in headers if h[0].lower() != "access-control-allow-origin"]
            return start_response(status, [*kept, ("X-Content-Type-Options", "nosniff")], *more)

        return self._application(environ, start)

    def _is_own_host(self, header: str) -> bool:
        try:
            name = (urlsplit(f"//{header}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if name in ("localhost", self._host.lower()):
            return True
        address = _address(name)
        if _is_loopback(self._host):
            return address is not None and address.is_loopback
        # A name of someone else's may lead here, an address cannot.
        return address is not None or name in (socket.gethostname().lower(), socket.getfqdn().lower())


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _refuse(
    start_response: Callable[..., Any], status: str, message: str, *headers: tuple[str, str]
) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "application/json"), *headers])
    return [f'{{"reason": "{message}"}}\n'.encode()]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not news."""


def listen(application: Application, *, host: str, port: int) -> WSGIServer:
    """A server that listens already; `serve_forever` answers.

    Raises:
        ConfigError: this process cannot listen there.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        server_class = type("_Server", (_Server,), {"address_family": family})
        return make_server(host, port, application, server_class=server_class, handler_class=_Handler)
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"the dashboard must be able to listen on {host}:{port}, but cannot: {one_line(error)}; give a free --port "
            "above 1023, and as --host an address of this machine"
        ) from None
