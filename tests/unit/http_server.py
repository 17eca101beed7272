"""A real HTTP server on this machine, with ranges, redirects and faults."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Answer:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut_after: int | None = None
    stream: Callable[[], Iterator[bytes]] | None = None
    """Makes what is sent instead of `body`, without a length, until it ends or the client hangs up."""


@dataclass
class Server:
    """What is answered: for each path its answers in turn, the last of them for ever; 404 for other paths."""

    url: str = ""
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    unanswered: int = 0
    most_unanswered: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_answer(self, path: str) -> Answer:
        answers = self.answers.get(path, [Answer(b"not found", 404)])
        return answers.pop(0) if len(answers) > 1 else answers[0]


def _handler(server: Server) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            with server.lock:
                server.asked.append(self.path)
                server.ranges.append(self.headers["Range"])
                server.unanswered += 1
                server.most_unanswered = max(server.most_unanswered, server.unanswered)
                answer = server.next_answer(self.path)
            time.sleep(answer.delay)
            with server.lock:  # before the answer: once the client has it, its next request may come at any moment
                server.unanswered -= 1
            try:
                self._send(answer)
            except (BrokenPipeError, ConnectionResetError):  # the client has lost patience
                pass

        def _send(self, answer: Answer) -> None:
            first = self._first_byte(answer)
            self.send_response(206 if first else answer.status)
            if first:
                self.send_header("Content-Range", f"bytes {first}-{len(answer.body) - 1}/{len(answer.body)}")
            length = {} if answer.stream else {"Content-Length": str(len(answer.body) - first)}
            for name, value in {**length, **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if answer.stream:
                for block in answer.stream():
                    self.wfile.write(block)
                return
            self.wfile.write(answer.body[first:][: answer.cut_after])

        def _first_byte(self, answer: Answer) -> int:
            wanted, condition = self.headers["Range"], self.headers["If-Range"]
            validators = (answer.headers.get("ETag"), answer.headers.get("Last-Modified"))
            if wanted is None or answer.status != 200 or (condition and condition not in validators):
                return 0
            return int(wanted.removeprefix("bytes=").removesuffix("-"))

    return Handler


@contextmanager
def running_server() -> Iterator[Server]:
    state = Server()
    instance = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    state.url = f"http://127.0.0.1:{instance.server_address[1]}"
    thread = threading.Thread(target=instance.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        instance.shutdown()
        instance.server_close()
