"""Files and batches of the server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from loopback_server.app import LoopbackServer


class Batches:
    """Takes files and batches, and answers a batch when it is asked for it.

    Args:
        server: The server whose answers they get.
    """

    def __init__(self, server: LoopbackServer) -> None:
        self.server = server
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        #: How often a batch says that it is in progress.
        self.polls = 1
        #: Requests of a batch whose answers are errors, by position.
        self.failing: set[int] = set()
        #: Faults of answers, by position.
        self.spoiled: dict[int, str] = {}
        #: Whether creating a batch cuts the connection after the batch is there.
        self.cut_after_create = False
        #: Method and start of the addresses that get half a body, if any.
        self.halved: tuple[str, str] | None = None
        #: Whether a download is cut.
        self.cut_download = False
        #: Whether the server knows nothing of batches.
        self.absent = False

    def add_routes(self, application: web.Application) -> None:
        router = application.router
        application.middlewares.append(self.halve)
        router.add_post("/v1/files", self.upload)
        router.add_get("/v1/files/{id}/content", self.download)
        router.add_post("/v1/batches", self.create)
        router.add_get("/v1/batches", self.list)
        router.add_get("/v1/batches/{id}", self.retrieve)
        router.add_post("/v1/batches/{id}/cancel", self.cancel)

    @web.middleware
    async def halve(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Do what is asked, and say so in half a body."""
        response = await handler(request)
        if self.halved is None or request.method != self.halved[0]:
            return response
        if not request.path.startswith(self.halved[1]):
            return response
        body = response.body[: len(response.body) // 2]
        return web.Response(body=body, content_type="application/json")

    async def upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        upload = form["file"]
        assert isinstance(upload, web.FileField)
        assert form["purpose"] == "batch"
        name = f"file-{len(self.files)}"
        self.files[name] = upload.file.read()
        return web.json_response(_file(name, len(self.files[name])))

    async def download(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["id"]
        if name not in self.files:
            return _not_found(f"No such File object: {name}")
        if self.cut_download:
            stream = web.StreamResponse(headers={"content-length": "100000"})
            await stream.prepare(request)
            await stream.write(self.files[name][:40])
            assert request.transport is not None
            request.transport.close()
            return stream
        return web.Response(body=self.files[name])

    async def create(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        name = f"batch_{len(self.batches)}"
        lines = self.files[body["input_file_id"]].splitlines()
        self.batches[name] = {
            "id": name,
            "object": "batch",
            "endpoint": body["endpoint"],
            "input_file_id": body["input_file_id"],
            "completion_window": body["completion_window"],
            "created_at": 0,
            "status": "in_progress",
            "metadata": body.get("metadata"),
            "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
            "polls": self.polls,
        }
        if self.cut_after_create:
            self.cut_after_create = False
            assert request.transport is not None
            request.transport.close()
        return web.json_response(self.batches[name])

    async def list(self, request: web.Request) -> web.Response:
        if self.absent:
            return _not_found("Not Found")
        entries = list(self.batches.values())[::-1]
        return web.json_response({"object": "list", "data": entries, "has_more": False})

    async def retrieve(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        if self.absent or name not in self.batches:
            return _not_found(f"No batch found with id '{name}'.")
        batch = self.batches[name]
        if batch["status"] == "in_progress":
            if batch["polls"] <= 0:
                self._finish(batch)
            batch["polls"] -= 1
        return web.json_response(batch)

    async def cancel(self, request: web.Request) -> web.Response:
        batch = self.batches[request.match_info["id"]]
        batch["status"] = "cancelled"
        return web.json_response(batch)

    def _finish(self, batch: dict[str, Any]) -> None:
        done, failed = [], []
        lines = self.files[batch["input_file_id"]].splitlines()
        for position, line in enumerate(lines):
            entry = json.loads(line)
            assert entry["url"] == batch["endpoint"]
            if position in self.failing:
                error = {"code": "server_error", "message": "it failed"}
                failed.append({"custom_id": entry["custom_id"], "error": error})
                continue
            response = self.server.completion(entry["body"], self.spoiled.get(position))
            done.append(
                {
                    "custom_id": entry["custom_id"],
                    "response": {"status_code": 200, "body": response},
                    "error": None,
                }
            )
        # Batches answer in any order.
        batch["output_file_id"] = self._keep(done[::-1])
        batch["error_file_id"] = self._keep(failed) if failed else None
        batch["status"] = "completed"
        batch["request_counts"] |= {"completed": len(done), "failed": len(failed)}

    def _keep(self, lines: Any) -> str:
        name = f"file-{len(self.files)}"
        self.files[name] = "\n".join(map(json.dumps, lines)).encode()
        return name


def _not_found(message: str) -> web.Response:
    error = {"message": message, "type": "invalid_request_error"}
    return web.json_response({"error": error}, status=404)


def _file(name: str, size: int) -> dict[str, Any]:
    return {
        "id": name,
        "object": "file",
        "bytes": size,
        "created_at": 0,
        "filename": "requests.jsonl",
        "purpose": "batch",
        "status": "processed",
    }
