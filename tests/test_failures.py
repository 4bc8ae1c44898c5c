from __future__ import annotations

import errno
import os
import socket
import ssl

import pytest

from mcpd.failures import SAID_MAX, Kind, of_connect, of_end, of_status, of_tls

NPM = """npm error code E404
npm error 404 Not Found - GET https://registry.example.org/@nobody%2fnothing - Not found
npm error 404
npm error 404  '@nobody/nothing@*' is not in this registry.
npm error A complete log of this run can be found in: /home/alice/.npm/_logs/x.log"""
NPM_OLD = "npm ERR! code E404\nnpm ERR! 404 Not Found - GET https://registry.example.org/nothing"
UVX = """  x No solution found when resolving tool dependencies:
  ╰─▶ Because nothing was not found in the package registry and you require nothing, we can conclude that your
      requirements are unsatisfiable."""
NODE_PORT = "Error: listen EADDRINUSE: address already in use 127.0.0.1:3000"
PYTHON_PORT = "OSError: [Errno 98] Address already in use"
UVICORN_PORT = "ERROR:    [Errno 98] error while attempting to bind on address ('::', 80): address already in use"
GO_PORT = "listen tcp :8080: bind: address already in use"
NODE_HEAP = "FATAL ERROR: Ineffective mark-compacts near heap limit Allocation failed - JavaScript heap out of memory"


def end(words="exited with status 1", *, code=1, signal=None, oom=False, said="", opened=False):
    return of_end(words, code=code, signal=signal, out_of_memory=oom, said=said, opened=opened)


@pytest.mark.parametrize(
    ("found", "kind", "words", "operator"),
    [
        (end(), Kind.EXITED_IN_HANDSHAKE, "exited with status 1 before its handshake was done", False),
        (end(code=0), Kind.EXITED_IN_HANDSHAKE, "before its handshake was done", False),
        (end(opened=True), Kind.EXITED, "exited with status 1", False),
        (end(code=0, opened=True, said=PYTHON_PORT), Kind.EXITED, "exited", False),
        (end("it closed its stdout", code=None, opened=True), Kind.EXITED, "it closed its stdout", False),
        (end("was killed by SIGSEGV", code=None, signal=11), Kind.KILLED, "SIGSEGV before its handshake", False),
        (end("was killed by SIGKILL", code=None, signal=9, opened=True), Kind.KILLED, "killed by SIGKILL", False),
        (end(code=None, signal=9, oom=False, opened=True), Kind.KILLED, "", False),
        (end("out of memory", code=None, signal=9, oom=True, opened=True), Kind.OUT_OF_MEMORY, "out of memory", False),
        (end(code=137, oom=True), Kind.OUT_OF_MEMORY, "before its handshake", False),
        (end(code=0, oom=True, opened=True), Kind.EXITED, "", False),
        (end(code=None, signal=6, said=NODE_HEAP, opened=True), Kind.OUT_OF_MEMORY, "it says that it ran out", False),
        (end(said="MemoryError"), Kind.OUT_OF_MEMORY, "ran out of memory", False),
        (end(said=NODE_PORT), Kind.PORT_IN_USE, "a port that it wants is in use", False),
        (end(said=PYTHON_PORT), Kind.PORT_IN_USE, "port", False),
        (end(said=UVICORN_PORT, opened=True), Kind.PORT_IN_USE, "port", False),
        (end(said=GO_PORT), Kind.PORT_IN_USE, "port", False),
        (end(said=NPM), Kind.PACKAGE_NOT_FOUND, "package or image", True),
        (end(said=NPM_OLD), Kind.PACKAGE_NOT_FOUND, "package or image", True),
        (end(said=UVX), Kind.PACKAGE_NOT_FOUND, "package or image", True),
        (end(said="Error: pull access denied for x"), Kind.PACKAGE_NOT_FOUND, "package or image", True),
        (end(said="npm error code EAI_AGAIN"), Kind.DNS_UNREACHABLE, "could not resolve a name", False),
        (end(said="ModuleNotFoundError: No module named 'mcp'"), Kind.MODULE_NOT_FOUND, "a module or library", True),
        (end(said="Error: Cannot find module '/x.js'"), Kind.MODULE_NOT_FOUND, "a module or library", True),
        (end(said="ModuleNotFoundError: No module named 'x'", opened=True), Kind.EXITED, "", False),
        (end(code=127), Kind.NOT_FOUND, "", True),
        (end(code=126), Kind.PERMISSION_DENIED, "", True),
        (end(code=127, opened=True), Kind.EXITED, "", False),
        (end(said=NODE_PORT + " " * SAID_MAX), Kind.EXITED_IN_HANDSHAKE, "", False),
    ],
)
def test_why_a_child_ended(found, kind, words, operator):
    assert found.kind is kind
    assert words in found.reason
    assert found.needs_operator is operator
    assert found.remedy


@pytest.mark.parametrize(
    ("status", "kind", "operator"),
    [
        (401, Kind.UNAUTHORIZED, True),
        (403, Kind.FORBIDDEN, True),
        (410, Kind.GONE, True),
        (429, Kind.BUSY, False),
        (503, Kind.BUSY, False),
    ],
)
def test_what_a_status_means(status, kind, operator):
    found = of_status(status, "github")
    assert (found.kind, found.needs_operator) == (kind, operator)
    assert found.reason.startswith(f"HTTP {status}: ")
    assert found.remedy
    assert ("servers.github.headers" in found.remedy) == (status in (401, 403))


@pytest.mark.parametrize("status", [200, 400, 404, 405, 500, 502, 504])
def test_statuses_that_say_nothing_of_the_server_as_a_whole(status):
    assert of_status(status, "github") is None


def os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def refused_at_every_address() -> OSError:
    """As Trio raises it."""
    error = OSError("all attempts to connect to localhost:1 failed")
    error.__cause__ = ExceptionGroup("one for each", [os_error(errno.ECONNREFUSED), os_error(errno.ENETUNREACH)])
    return error


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (os_error(errno.ECONNREFUSED), Kind.REFUSED, "connection refused"),
        (refused_at_every_address(), Kind.REFUSED, "connection refused"),
        (os_error(errno.EHOSTUNREACH), Kind.UNREACHABLE, "No route to host"),
        (os_error(errno.EMFILE), Kind.NO_RESOURCES, "Too many open files"),
        (OSError("odd"), Kind.UNREACHABLE, "odd"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), Kind.DNS_NOT_FOUND, "does not resolve (Name"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), Kind.DNS_UNREACHABLE, "the resolver does not answer"),
        (UnicodeError("label too long"), Kind.DNS_NOT_FOUND, "does not resolve (label"),
    ],
)
def test_why_no_connection_came_about(error, kind, words):
    found = of_connect(error)
    assert found.kind is kind
    assert words in found.reason
    assert found.remedy
    assert not found.needs_operator


def test_a_real_name_that_is_not_there():
    with pytest.raises(socket.gaierror) as caught:
        socket.getaddrinfo("not a number", 1, flags=socket.AI_NUMERICHOST)
    assert of_connect(caught.value).kind is Kind.DNS_NOT_FOUND


def unverified(code: int) -> BaseException:
    """As Trio raises it."""
    error = RuntimeError("broken")
    error.__cause__ = cause = ssl.SSLCertVerificationError()
    cause.verify_code, cause.verify_message = code, "what OpenSSL says"
    return error


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (unverified(18), Kind.TLS_UNTRUSTED, "not trusted (what OpenSSL says)"),
        (unverified(20), Kind.TLS_UNTRUSTED, "not trusted"),
        (unverified(9), Kind.TLS_EXPIRED, "not valid now"),
        (unverified(10), Kind.TLS_EXPIRED, "not valid now"),
        (unverified(62), Kind.TLS_WRONG_NAME, "for another name"),
        (unverified(64), Kind.TLS_WRONG_NAME, "for another name"),
        (RuntimeError(), Kind.TLS_FAILED, "the connection was closed"),
    ],
)
def test_why_tls_failed(error, kind, words):
    found = of_tls(error)
    assert found.kind is kind
    assert words in found.reason
    assert found.remedy


def test_kinds_are_words_for_programs():
    assert all(kind.value == kind.value.lower() and " " not in kind.value for kind in Kind)
