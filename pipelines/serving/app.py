"""The HTTP interface: pictures in, people out."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, TypeVar, TypeVarTuple

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import rtmo
from pipelines.params import ServeConfig
from pipelines.serving.batching import Batcher
from pipelines.serving.limits import Guard, Places, RefusedError
from pipelines.serving.models import Alias, LiveModel, ServedModel
from pipelines.serving.pictures import (
    FORM,
    JSON,
    SentPicture,
    open_picture,
    read_form,
    read_rows,
)
from rtmo.deployment.framing import InputBatch
from rtmo.deployment.postprocess import to_lists
from rtmo.evaluation.predict import coco_results
from rtmo.formats.coco import person_category
from rtmo.structures import Poses

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

MEGA = 10**6
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {
                    "type": "object",
                    "properties": {
                        "pictures": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                        }
                    },
                }
            },
            JSON: {"example": {"inputs": [{"image": "base64 of a picture file"}]}},
        },
    }
}


class PoseServer:
    """Takes requests apart, has their pictures computed, and puts answers together."""

    def __init__(self, live: LiveModel, config: ServeConfig) -> None:
        self._live = live
        self._config = config
        self._requests = Places(config.max_waiting, "requests")
        self._pictures = Places(config.max_waiting, "pictures")
        self._openers = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="pictures")
        self._batcher = Batcher(max_batch=config.max_batch, max_wait_ms=config.max_wait_ms)
        self._started = time.monotonic()

    def close(self) -> None:
        """Finish what was begun."""
        self._batcher.close()
        self._openers.shutdown()

    async def predict(self, request: Request) -> JSONResponse:
        """People of every picture, as a COCO document: images, categories, annotations.

        An annotation has `keypoints` (x, y, score of each), `score` and `bbox` (x, y, width,
        height), in pixels of the picture as it is shown.
        """
        sent, model, answers = await self._answer(request)
        images, annotations = [], []
        for number, (picture, (size_hw, poses)) in enumerate(
            zip(sent, answers, strict=True), start=1
        ):
            height, width = size_hw
            images.append(
                {"id": number, "file_name": picture.name, "width": width, "height": height}
            )
            annotations += coco_results(number, poses)
        return JSONResponse(
            {
                "model": model.identity,
                "images": images,
                "categories": [person_category(model.predictor.skeleton)],
                "annotations": annotations,
            }
        )

    async def invocations(self, request: Request) -> JSONResponse:
        """The same as `mlflow models serve`: `predictions`, one object per row."""
        _, _, answers = await self._answer(request)
        return JSONResponse({"predictions": [to_lists(poses) for _, poses in answers]})

    async def health(self) -> dict[str, Any]:
        """Which model answers, since when, and how much there is to do."""
        return {
            "status": "ready",
            "model": self._live.now.identity,
            "reload_problem": self._live.problem,
            "uptime_s": round(time.monotonic() - self._started, 1),
            "pictures_waiting": self._pictures.taken,
        }

    async def _answer(
        self, request: Request
    ) -> tuple[list[SentPicture], ServedModel, list[tuple[tuple[int, int], Poses]]]:
        """What was sent, which model looked at it, and height, width and people of each picture."""
        with self._requests.hold(1):
            sent = await self._read(request)
            with self._pictures.hold(len(sent)):
                model = self._live.now
                return sent, model, await self._compute(model, sent)

    async def _read(self, request: Request) -> list[SentPicture]:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == FORM:
            return await read_form(request, self._config.max_pictures)
        if kind == JSON:
            body = await request.body()
            return await self._in_thread(read_rows, body, self._config.max_pictures)
        raise RefusedError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"the body is {kind or 'of no stated type'}; expected {FORM} with files, or {JSON}",
        )

    async def _compute(
        self, model: ServedModel, sent: Sequence[SentPicture]
    ) -> list[tuple[tuple[int, int], Poses]]:
        batches = await asyncio.gather(
            *(self._in_thread(self._prepare, model, picture) for picture in sent)
        )
        people = await asyncio.gather(
            *(
                asyncio.wrap_future(self._batcher.submit(model.predictor, batch.pixels))
                for batch in batches
            )
        )
        return [
            (batch.letterboxes[0].source_hw, model.predictor.framing.finish([found], batch)[0])
            for batch, found in zip(batches, people, strict=True)
        ]

    def _prepare(self, model: ServedModel, picture: SentPicture) -> InputBatch:
        """A picture as network input; what waits is of that size, however large the picture is."""
        image = open_picture(picture, int(self._config.max_megapixels * MEGA))
        try:
            return model.predictor.framing.prepare([image])
        except ValueError as error:
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"{picture.name}: {error}") from None

    async def _in_thread(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._openers, function, *arguments)


def build_app(
    live: LiveModel, alias: Alias | None, config: ServeConfig, allowed_hosts: frozenset[str]
) -> FastAPI:
    """The application.

    Args:
        live: the model that answers first.
        alias: what to follow; None for a file.
        config: limits and batching.
        allowed_hosts: names of this server.
    """
    server = PoseServer(live, config)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        following = (
            None if alias is None else asyncio.create_task(live.follow(alias, config.poll_s))
        )
        yield
        if following is not None:
            following.cancel()
        await asyncio.to_thread(server.close)

    app = FastAPI(
        title="RTMO",
        description="People and their keypoints in pictures.",
        version=rtmo.__version__,
        docs_url=None,  # both pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.post("/predict", openapi_extra=BODY)(server.predict)
    app.post("/invocations", openapi_extra=BODY)(server.invocations)
    app.get("/health")(server.health)
    app.get("/health/ready")(server.health)  # there is a model before there is a server

    @app.get("/health/live")
    async def is_alive() -> dict[str, str]:
        """Whether the process answers at all."""
        return {"status": "alive"}

    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _internal_error)
    app.add_middleware(
        Guard,
        allowed_hosts=allowed_hosts,
        max_body_bytes=int(config.max_body_mb * MEGA),
        body_timeout_s=config.body_timeout_s,
    )
    return app


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RefusedError)
    return error.response()


async def _http_error(_request: Request, error: Exception) -> JSONResponse:
    """What the framework refuses: unknown paths, other methods, forms of too many files."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _gone(_request: Request, _error: Exception) -> JSONResponse:
    """Nobody reads this."""
    return JSONResponse({"error": "the client left"}, HTTPStatus.BAD_REQUEST)


async def _internal_error(_request: Request, _error: Exception) -> JSONResponse:
    words = "the server failed; its log says more"
    return JSONResponse({"error": words}, HTTPStatus.INTERNAL_SERVER_ERROR)
