"""POST /restore without its HTTP: from uploaded bytes to the answer's, through the CPU pool and the device."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from models.errors import GeometryError, HonestFaceError, NoFaceError, PictureError, ReferencesError, TooReducedError
from models.face_restorer import REDUCED_SIDE, FaceJob, Options, Prepared
from models.geometry import Pixels
from models.picture import (
    PictureLimits,
    PictureTooLargeError,
    UnknownFormatError,
    check_enlarged,
    check_side,
    decode,
    encode,
    read_header,
)
from models.references import Reference
from models.restoration_mark import restoration_mark
from service import problems
from service.admission import Admission, PixelBudget, Ticket
from service.answer import Answer, answer
from service.batcher import Batcher, DeadlinePassed, DeviceLost, Done, QueueFull
from service.engine import Engine, use_threads
from service.metrics import Metrics
from service.options import RestoreOptions, Wanted, picture_format
from service.problems import Problem
from service.reference_sets import ReferenceStore
from service.request_scope import RequestContext
from service.settings import Settings

T = TypeVar("T")
U = TypeVar("U")


class RestorationPipeline:
    """The stages of a request: decode, align, device, encode. One instance a process, on one event loop."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        admission: Admission,
        references: ReferenceStore,
        make_engine: Callable[[], Engine],
        on_death: Callable[[BaseException], None],
    ) -> None:
        self._settings, self._admission, self._references = settings, admission, references
        self._limits = PictureLimits(settings.max_file_bytes, settings.max_pixels)
        self._pixels = PixelBudget(int(settings.memory_megapixels * 1e6))
        # References wait undecoded for their turn: of all that are in work, only so many are in memory as pixels.
        self._references_at_once = asyncio.Semaphore(settings.cpu_workers)
        # Each worker computes on one thread: together they would otherwise crowd the device thread off its cores.
        self._cpu = ThreadPoolExecutor(settings.cpu_workers, "cpu", use_threads, (1,))
        # When the task that each of its threads is at began.
        self._begun: dict[int, float] = {}
        self._make_engine = make_engine
        self.engine: Engine | None = None
        self.batcher: Batcher[FaceJob, Pixels] = Batcher(
            self._run,
            max_batch=settings.faces_a_batch,
            wait_s=settings.batch_wait_ms / 1000,
            capacity=settings.queue_faces,
            observer=metrics,
            on_start=self._load,
            on_death=on_death,
        )

    def _run(self, jobs: Sequence[FaceJob]) -> list[Pixels]:
        return self.ready_engine.generate(jobs)

    @property
    def ready_engine(self) -> Engine:
        """The engine.

        Raises:
            Problem: it is not loaded yet.
        """
        if self.engine is None:
            raise Problem(problems.NOT_READY, "the bundle is being loaded", retry_after=5)
        return self.engine

    def _load(self) -> None:
        """Makes and warms up the engine, on the device thread."""
        engine = self._make_engine()
        sizes = [1 << power for power in range(self._settings.faces_a_batch.bit_length())]
        self._admission.throughput.assume(engine.warm_up(sizes, self._settings.device_threads))
        self.engine = engine

    @property
    def longest_task_seconds(self) -> float:
        """How long the CPU pool has been at the task that it has been at the longest; 0 where it is at none."""
        now = time.monotonic()
        return now - min(self._begun.copy().values(), default=now)

    def close(self) -> None:
        """Ends the CPU pool; pending work is dropped."""
        self._cpu.shutdown(wait=False, cancel_futures=True)

    def check_ready(self) -> None:
        """Raises the problem that keeps any request from being worked on, if there is one."""
        if self.engine is not None and not self.batcher.alive:
            raise Problem(problems.DEVICE_FAILED, "the device has failed", 30)
        self.ready_engine  # noqa: B018

    async def restore(
        self,
        context: RequestContext,
        ticket: Ticket,
        image: bytes,
        references: Sequence[bytes | Reference],
        options: RestoreOptions,
        wanted: Wanted,
        deadline: float,
    ) -> Answer:
        """Restores one picture; `deadline` by time.monotonic().

        Raises:
            Problem: anything that keeps it from being restored.
        """
        engine = self.ready_engine
        restorer = engine.restorer
        if wanted.body == "image":
            # Nobody would see the report.
            options = options.model_copy(update={"diagnostics": "none"})
        chosen = Options(
            faces=options.faces,
            strength=options.strength,
            color_fix=options.color_fix,
            seed=options.seed,
            diagnostics=options.diagnostics or "summary",
            upscale=options.upscale,
        )
        with _told_apart():
            header = await self._on_cpu(context, "decode", lambda: read_header(image, self._limits))
            check_enlarged(header.width, header.height, options.upscale, self._limits)
        side = max(header.width, header.height) * options.upscale
        format = picture_format(options, wanted, header.format, side)
        try:
            check_side(format, side)
        except PictureError as error:
            raise Problem(problems.INVALID_OPTION, str(error)) from error
        async with self._pixels.hold(header.width * header.height * options.upscale**2):
            prepared, analysed = await _both(self._prepare(context, image, chosen), self.analyse(context, references))
            self._check_faces(len(prepared.faces), self._settings.faces_a_picture)
            ticket.faces = len(prepared.faces)
            jobs = restorer.jobs(prepared, analysed, chosen)
            crops = await self._generate(context, jobs, deadline)

            def finish() -> Answer:
                restoration = restorer.finish(prepared, jobs, crops, chosen)
                restored, model = restoration.picture, engine.model
                mark = restoration_mark(model.profile, model.version)
                picture = encode(restored.pixels, restored.alpha, format, options.quality, mark)
                return answer(picture, format, restoration, chosen.diagnostics, wanted.body, context.id, model)

            return await self._on_cpu(context, "encode", finish)

    async def _prepare(self, context: RequestContext, image: bytes, options: Options) -> Prepared:
        restorer = self.ready_engine.restorer
        with _told_apart():
            picture = await self._on_cpu(context, "decode", lambda: decode(image, self._limits))
            found = await self._on_cpu(context, "align", lambda: restorer.find(picture, options))
            # Aligning leaves out what only looks like a face; far more than may be are not worth the time it takes.
            if options.faces == "all":
                self._check_faces(len(found), 2 * self._settings.faces_a_picture)
            return await self._on_cpu(context, "align", lambda: restorer.align(picture, found, options))

    def _check_faces(self, found: int, most: int) -> None:
        if found > most:
            raise Problem(
                problems.TOO_MANY_FACES,
                f"{found} faces were found, at most {self._settings.faces_a_picture} are restored at once",
            )

    async def analyse(self, context: RequestContext, references: Sequence[bytes | Reference]) -> list[Reference]:
        return await _together(*(self._reference(context, index, each) for index, each in enumerate(references)))

    async def _reference(self, context: RequestContext, index: int, reference: bytes | Reference) -> Reference:
        if isinstance(reference, Reference):
            return reference
        restorer = self.ready_engine.restorer

        async def analyse(data: bytes) -> Reference:
            async def prepared(least_side: int | None) -> Reference:
                picture = await self._on_cpu(context, "decode", lambda: decode(data, self._limits, least_side))
                return (await self._on_cpu(context, "align", lambda: restorer.prepare_references([picture], [""])))[0]

            async with self._references_at_once:
                with suppress(TooReducedError):
                    return await prepared(REDUCED_SIDE)
                return await prepared(None)

        with _told_apart(index):
            return await self._references.analysed(reference, analyse, context.owner)

    async def _generate(self, context: RequestContext, jobs: Sequence[FaceJob], deadline: float) -> list[Pixels]:
        try:
            futures = [asyncio.wrap_future(future) for future in self.batcher.submit(jobs, deadline)]
            done: list[Done[Pixels]] = await _together(*futures)
        except QueueFull:
            raise self._admission.overloaded("queue", "no more faces can wait for the device") from None
        except DeadlinePassed:
            raise Problem(
                problems.DEADLINE_EXCEEDED, "the deadline passed while a face waited for the device"
            ) from None
        except MemoryError as error:
            raise Problem(problems.OUT_OF_MEMORY, "a single face does not fit in the device's memory", 10) from error
        except DeviceLost as error:
            raise Problem(problems.DEVICE_FAILED, "the device has failed", 30) from error
        # The faces of a picture wait and run side by side; what counts for the request is the slowest.
        slowest = max(done, key=lambda each: each.queue_seconds + each.device_seconds)
        context.spend("queue", slowest.queue_seconds)
        context.spend("device", slowest.device_seconds)
        return [each.value for each in done]

    async def _on_cpu(self, context: RequestContext, stage: str, work: Callable[[], T]) -> T:
        """Runs work in the CPU pool; the time before it starts counts as queueing."""

        def timed() -> tuple[T, float, float]:
            thread, started = threading.get_ident(), time.monotonic()
            self._begun[thread] = started
            try:
                return work(), started, time.monotonic()
            finally:
                del self._begun[thread]

        submitted = time.monotonic()
        result, started, ended = await asyncio.get_running_loop().run_in_executor(self._cpu, timed)
        context.spend("queue", started - submitted)
        context.spend(stage, ended - started)
        return result


async def _both(one: Awaitable[T], other: Awaitable[U]) -> tuple[T, U]:
    results: list[Any] = await _together(one, other)
    return results[0], results[1]


async def _together(*work: Awaitable[T]) -> list[T]:
    """The results of all; the first failure cancels the others."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


@contextmanager
def _told_apart(reference: int | None = None) -> Iterator[None]:
    """Turns what is wrong with a picture, or with the reference of an index, into its problem."""
    try:
        yield
    except HonestFaceError as error:
        kind, detail, extra = _kind_of(error, reference is not None), str(error).removeprefix(": "), {}
        if reference is not None:
            detail, extra = f"reference {reference + 1}: {detail}", {"reference": reference}
        raise Problem(kind, detail, extra=extra) from error


def _kind_of(error: HonestFaceError, is_reference: bool) -> problems.Kind:
    match error:
        case UnknownFormatError():
            return problems.UNSUPPORTED_MEDIA_TYPE
        case PictureTooLargeError():
            return problems.PICTURE_TOO_LARGE
        case PictureError() | NoFaceError() | GeometryError() | ReferencesError() if is_reference:
            return problems.INVALID_REFERENCE
        case PictureError():
            return problems.INVALID_PICTURE
        case NoFaceError() | GeometryError():
            return problems.NO_FACE
    raise error
