"""A gateway's web server in the test's own process: pages by path, and what was asked of it."""

import http.server
import threading
from types import TracebackType
from typing import Self

Page = tuple[int, bytes] | tuple[int, bytes, dict[str, str]]


class WebGateway:
    """Serves ``pages``; of a list the first is taken each time, until the last one, which stays."""

    def __init__(self, **pages: Page | list[Page]) -> None:
        self.pages = {f"/{name}": list(page) if isinstance(page, list) else [page] for name, page in pages.items()}
        self.asked: list[tuple[str, str]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, self.headers.get("Authorization", "")))
                pages = outer.pages.get(self.path, [(404, b"not found")])
                status, content, *more = pages.pop(0) if len(pages) > 1 else pages[0]
                self.send_response(int(str(status)))
                for name, value in (more[0] if more else {}).items():  # type: ignore[attr-defined]
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(bytes(content))  # type: ignore[arg-type]

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.address = f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
