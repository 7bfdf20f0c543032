"""Google Cloud Storage's JSON API over HTTP, in memory, as far as this project's client goes, with faults on demand.

Written from the API's reference (https://cloud.google.com/storage/docs/json_api/v1 and .../docs/resumable-uploads) and
from what google-cloud-storage sends. One lock makes it as strongly consistent as the real one. There: media, multipart
and resumable uploads, generations and both generation preconditions, compose, rewrite, listing with prefix, delimiter
and pages, crc32c and md5, range reads, delete. Not there: authentication, ACLs, metadata updates, XML uploads.
"""

import base64
import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import google_crc32c

Answer = tuple[int, dict[str, str], bytes]
"""Status, headers, body."""

MESSAGES = {
    400: "Bad Request",
    401: "Invalid Credentials",
    403: "slipway@example.iam.gserviceaccount.com does not have storage.objects.create access",
    404: "No such object",
    408: "Request Timeout",
    412: "At least one of the pre-conditions you specified did not hold.",
    416: "The requested range cannot be satisfied.",
    429: "The rate of change requests to the object exceeds the rate limit.",
    500: "Backend Error",
    503: "Service Unavailable",
}


def crc32c(data: bytes) -> str:
    """Return base64 of the big-endian crc32c, as the API writes it."""
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


@dataclass(frozen=True)
class Object:
    data: bytes
    generation: int
    updated: datetime
    content_type: str = "application/octet-stream"

    def resource(self, bucket: str, name: str) -> dict[str, Any]:
        stamp = self.updated.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {
            "kind": "storage#object",
            "id": f"{bucket}/{name}/{self.generation}",
            "bucket": bucket,
            "name": name,
            "generation": str(self.generation),
            "metageneration": "1",
            "contentType": self.content_type,
            "storageClass": "STANDARD",
            "size": str(len(self.data)),
            "crc32c": crc32c(self.data),
            "md5Hash": base64.b64encode(hashlib.md5(self.data).digest()).decode(),  # noqa: S324 - the API's field
            "timeCreated": stamp,
            "updated": stamp,
            "etag": base64.b64encode(str(self.generation).encode()).decode(),
        }


@dataclass
class Session:
    """A resumable upload."""

    bucket: str
    name: str
    query: dict[str, str]
    crc32c: str | None
    received: bytearray = field(default_factory=bytearray)
    done: Object | None = None


class ApiError(Exception):
    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message or MESSAGES[status]

    def answer(self) -> Answer:
        detail = {"message": self.message, "domain": "global", "reason": "error"}
        body = {"error": {"code": self.status, "message": self.message, "errors": [detail]}}
        return self.status, {"Content-Type": "application/json"}, json.dumps(body).encode()


@dataclass
class Fault:
    """What goes wrong, where, and how often.

    Args:
        action: A status code, ``reset``, ``stall``, ``corrupt-request``, or, of a response's body, ``corrupt``,
            ``short``, or both, ``corrupt-short``.
        method: HTTP method as a regular expression.
        path: Regular expression that must be found in the unquoted path and query.
        count: Times, then no more.
        after: Whether the request takes effect first.
        skip: Matching requests that are let through before the first fault.
        hook: Called at that moment, before anything else: something that happens in between.
    """

    action: int | str
    method: str = ".*"
    path: str = ""
    count: int = 1
    after: bool = False
    skip: int = 0
    hook: Callable[[], None] | None = None
    fired: int = 0

    def matches(self, method: str, target: str) -> bool:
        return re.fullmatch(self.method, method) is not None and re.search(self.path, target) is not None


class GcsServer:
    """The state behind the API: buckets of objects, upload sessions, faults, and a log of requests."""

    def __init__(self, *buckets: str) -> None:
        self.buckets: dict[str, dict[str, Object]] = {name: {} for name in buckets}
        self.sessions: dict[str, Session] = {}
        self.faults: list[Fault] = []
        self.log: list[tuple[str, str]] = []
        self.url = ""
        self._generation = 1_700_000_000_000_000
        self._lock = threading.RLock()
        self._stop = threading.Event()

    def fault(self, action: int | str, **where: Any) -> Fault:  # noqa: ANN401 - the fields of a Fault
        """Add a fault and return it, to ask it later how often it fired."""
        made = Fault(action, **where)
        self.faults.append(made)
        return made

    def take_fault(self, method: str, target: str) -> Fault | None:
        with self._lock:
            self.log.append((method, target))
            for fault in self.faults:
                if fault.fired < fault.count and fault.matches(method, target):
                    if fault.skip:
                        fault.skip -= 1
                        continue
                    fault.fired += 1
                    return fault
        return None

    def stall(self) -> None:
        self._stop.wait(30)

    def answer(self, method: str, target: str, headers: Message, body: bytes) -> Answer:
        parts = urlsplit(target)
        query = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        path = re.fullmatch(r"(/upload|/download)?/storage/v1/b/([^/]+)(/o(?:/(.*))?)?", parts.path)
        if path is None:
            raise ApiError(400, f"no such method: {method} {parts.path}")
        side, bucket, rest = path[1] or "", unquote(path[2]), path[4]
        with self._lock:
            if bucket not in self.buckets:
                raise ApiError(404, "The specified bucket does not exist.")
            if side == "/upload":
                return self._upload(method, bucket, query, headers, body)
            if path[3] is None:
                return _json({"kind": "storage#bucket", "name": bucket, "location": "EU"})
            if rest is None:
                return self._list(bucket, query)
            return self._object(method, bucket, rest, query, headers, body)

    def _object(
        self, method: str, bucket: str, rest: str, query: dict[str, str], headers: Message, body: bytes
    ) -> Answer:
        rewrite = re.fullmatch(r"(.+?)/rewriteTo/b/([^/]+)/o/(.+)", rest)
        if rewrite and method == "POST":
            source = self._get(bucket, unquote(rewrite[1]), query)
            made = self._commit(unquote(rewrite[2]), unquote(rewrite[3]), source.data, query)
            resource = made.resource(unquote(rewrite[2]), unquote(rewrite[3]))
            size = str(len(source.data))
            return _json({"done": True, "objectSize": size, "totalBytesRewritten": size, "resource": resource})
        if rest.endswith("/compose") and method == "POST":
            name = unquote(rest.removesuffix("/compose"))
            parts = [self._get(bucket, part["name"], {}) for part in json.loads(body)["sourceObjects"]]
            return _json(
                self._commit(bucket, name, b"".join(part.data for part in parts), query).resource(bucket, name)
            )
        name = unquote(rest)
        found = self._get(bucket, name, query)
        if method == "DELETE":
            del self.buckets[bucket][name]
            return 204, {}, b""
        if query.get("alt") == "media":
            return _media(found, headers.get("Range"))
        return _json(found.resource(bucket, name))

    def _get(self, bucket: str, name: str, query: dict[str, str]) -> Object:
        found = self.buckets[bucket].get(name)
        if found is None or query.get("generation", str(found.generation)) != str(found.generation):
            raise ApiError(404, f"No such object: {bucket}/{name}")
        self._require(found, query)
        return found

    def _require(self, found: Object | None, query: dict[str, str]) -> None:
        now = str(found.generation) if found else "0"
        if query.get("ifGenerationMatch", now) != now or query.get("ifGenerationNotMatch") == now:
            raise ApiError(412)

    def _commit(
        self, bucket: str, name: str, data: bytes, query: dict[str, str], checksum: str | None = None
    ) -> Object:
        self._require(self.buckets[bucket].get(name), query)
        if checksum not in (None, crc32c(data)):
            raise ApiError(400, f'Provided CRC32C "{checksum}" doesn\'t match calculated CRC32C "{crc32c(data)}".')
        self._generation += 1
        made = Object(data, self._generation, datetime.now(UTC))
        self.buckets[bucket][name] = made
        return made

    def _upload(self, method: str, bucket: str, query: dict[str, str], headers: Message, body: bytes) -> Answer:
        if method == "PUT":
            return self._resume(self.sessions[query["upload_id"]], headers, body)
        if query["uploadType"] == "media":
            made = self._commit(bucket, query["name"], body, query)
            return _json(made.resource(bucket, query["name"]))
        if query["uploadType"] == "multipart":
            metadata, data = _parts(headers["Content-Type"], body)
            made = self._commit(bucket, metadata["name"], data, query, metadata.get("crc32c"))
            return _json(made.resource(bucket, metadata["name"]))
        metadata = json.loads(body)
        self._require(self.buckets[bucket].get(metadata["name"]), query)
        upload_id = f"upload-{len(self.sessions) + 1}"
        self.sessions[upload_id] = Session(bucket, metadata["name"], query, metadata.get("crc32c"))
        location = f"{self.url}/upload/storage/v1/b/{quote(bucket)}/o?uploadType=resumable&upload_id={upload_id}"
        return 200, {"Location": location}, b""

    def _resume(self, session: Session, headers: Message, body: bytes) -> Answer:
        if session.done is None:
            match = re.fullmatch(r"bytes (?:\*|(\d+)-\d+)/(\*|\d+)", headers["Content-Range"])
            assert match is not None
            start = int(match[1] or len(session.received))
            if start > len(session.received):
                raise ApiError(503)
            session.received += body[len(session.received) - start :]  # what was received before is ignored
            if match[2] == "*" or len(session.received) < int(match[2]):
                seen = {"Range": f"bytes=0-{len(session.received) - 1}"} if session.received else {}
                return 308, seen, b""
            session.done = self._commit(
                session.bucket, session.name, bytes(session.received), session.query, session.crc32c
            )
        return _json(session.done.resource(session.bucket, session.name))

    def _list(self, bucket: str, query: dict[str, str]) -> Answer:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = base64.urlsafe_b64decode(query["pageToken"]).decode() if "pageToken" in query else ""
        room = int(query.get("maxResults", "1000"))
        items: list[dict[str, Any]] = []
        prefixes: list[str] = []
        last = ""
        for name in sorted(self.buckets[bucket]):
            if not name.startswith(prefix):
                continue
            cut = name.find(delimiter, len(prefix)) if delimiter else -1
            row = name if cut < 0 else name[: cut + len(delimiter)]
            if row <= after or (cut >= 0 and prefixes[-1:] == [row]):
                continue
            if len(items) + len(prefixes) == room:
                token = base64.urlsafe_b64encode(last.encode()).decode()
                return _json({"kind": "storage#objects", "items": items, "prefixes": prefixes, "nextPageToken": token})
            last = row
            if cut < 0:
                items.append(self.buckets[bucket][name].resource(bucket, name))
            else:
                prefixes.append(row)
        return _json({"kind": "storage#objects", "items": items, "prefixes": prefixes})


def _json(value: object) -> Answer:
    return 200, {"Content-Type": "application/json; charset=UTF-8"}, json.dumps(value).encode()


def _parts(content_type: str, body: bytes) -> tuple[dict[str, Any], bytes]:
    match = re.search(r'boundary="?([^";]+)"?', content_type)
    assert match is not None
    _, first, rest = body.split(b"--" + match[1].encode(), 2)
    metadata = json.loads(first.split(b"\r\n\r\n", 1)[1])
    data = rest.split(b"\r\n\r\n", 1)[1]
    return metadata, data[: data.rindex(b"\r\n--" + match[1].encode())]


def _media(found: Object, wanted: str | None) -> Answer:
    digest = base64.b64encode(hashlib.md5(found.data).digest()).decode()  # noqa: S324 - the API's field
    headers = {
        "Content-Type": found.content_type,
        "X-Goog-Generation": str(found.generation),
        "X-Goog-Metageneration": "1",
        "X-Goog-Hash": f"crc32c={crc32c(found.data)},md5={digest}",
        "X-Goog-Stored-Content-Encoding": "identity",
        "X-Goog-Stored-Content-Length": str(len(found.data)),
        "X-Goog-Storage-Class": "STANDARD",
    }
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted or "")
    if match is None:
        return 200, headers, found.data
    start, end = int(match[1]), min(int(match[2] or len(found.data)), len(found.data) - 1)
    if start >= len(found.data):
        raise ApiError(416)
    headers["Content-Range"] = f"bytes {start}-{end}/{len(found.data)}"
    return 206, headers, found.data[start : end + 1]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "_Http"

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - http.server looks methods up by these names

    def log_message(self, *args: object) -> None:
        """Say nothing: the state keeps a log."""

    def _serve(self) -> None:
        gcs = self.server.gcs
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = gcs.take_fault(self.command, unquote(self.path))
        if fault is not None and fault.hook:
            fault.hook()
        if fault is not None and fault.action == "corrupt-request":
            body = _flip(body, _payload_middle(body))
        if fault is not None and not fault.after and self._fail(fault):
            return
        try:
            status, headers, answer = gcs.answer(self.command, self.path, self.headers, body)
        except ApiError as error:
            status, headers, answer = error.answer()
        if fault is not None and fault.after and self._fail(fault):
            return
        if fault is not None and fault.action in ("corrupt", "corrupt-short"):
            answer = _flip(answer, len(answer) // 4)
        cut = len(answer) // 2 if fault is not None and fault.action in ("short", "corrupt-short") else None
        self._send(status, headers, answer, cut)

    def _fail(self, fault: Fault) -> bool:
        """Whether the fault leaves nothing more to be said."""
        if isinstance(fault.action, int):
            self._send(*ApiError(fault.action).answer())
        elif fault.action in ("reset", "stall"):
            if fault.action == "stall":
                self.server.gcs.stall()
            self._reset()
        else:
            return False
        return True

    def _send(self, status: int, headers: dict[str, str], body: bytes, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut])
        if cut is not None:
            self.wfile.flush()
            self._reset(linger=True)

    def _reset(self, *, linger: bool = False) -> None:
        self.close_connection = True
        if not linger:  # a real RST, not an orderly end
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, gcs: GcsServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.gcs = gcs

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


def _payload_middle(body: bytes) -> int:
    """A place inside the payload of a multipart body, or the middle of any other."""
    return body.rindex(b"\r\n--") - 1 if b"\r\n--" in body else len(body) // 2


def _flip(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@contextmanager
def serving(*buckets: str) -> Iterator[GcsServer]:
    """Serve the API on a free port until the block ends; ``STORAGE_EMULATOR_HOST`` is the server's ``url``."""
    gcs = GcsServer(*buckets)
    http = _Http(gcs)
    gcs.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield gcs
    finally:
        gcs._stop.set()
        http.shutdown()
        http.server_close()
        thread.join(timeout=10)


if __name__ == "__main__":
    with serving("models") as running:
        print(running.url, flush=True)
        time.sleep(1e9)
