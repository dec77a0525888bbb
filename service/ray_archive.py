"""An archive restored by many workers on Ray Data: each is sent the references once, as they were prepared, and the
names of photographs, which it reads and writes itself."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from models.errors import HonestFaceError
from models.face_restorer import FaceRestorer, Options
from models.references import Reference
from service.ray_cluster import cluster
from service.restore_archive import Entry, Result, restore_each
from service.restore_files import FileRestorer, Targets

#: The most pictures of a task: as many results wait for its end, and as many are done again when a worker dies.
_LARGEST_TASK = 64
#: After so many workers have died on a picture it is given up.
_ATTEMPTS = 2


class Attempts:
    """Counts how often a picture was begun and not ended: one that kills its workers would else keep the run busy
    for ever, for Ray starts a dead worker's task again."""

    def __init__(self) -> None:
        self._begun: dict[str, int] = {}

    def begin(self, photo: str) -> int:
        """How many attempts at a picture have not ended."""
        unended = self._begun.get(photo, 0)
        self._begun[photo] = unended + 1
        return unended

    def end(self, photo: str) -> None:
        del self._begun[photo]


class Worker:
    """A process that restores pictures; `make_restorer` is called here, where the device is."""

    def __init__(
        self,
        make_restorer: Callable[[], FaceRestorer],
        references: Sequence[Reference],
        names: Sequence[str],
        options: Options,
        model: Mapping[str, str],
        targets: Targets,
        attempts: Any,
    ) -> None:
        from service.ray_cluster import import_ray

        self._ask = import_ray().get
        self._files = FileRestorer(make_restorer(), references, names, options, model)
        self._targets, self._attempts = targets, attempts

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        photos, insides = ([os.fsdecode(name) for name in batch[column].tolist()] for column in ("photo", "inside"))
        entries = map(Entry, photos, insides)
        return {"result": [self._restore(entry).line() for entry in entries]}

    def _restore(self, entry: Entry) -> Result:
        if self._ask(self._attempts.begin.remote(entry.photo)) >= _ATTEMPTS:
            error = f"{entry.photo}: {_ATTEMPTS} workers died on it, perhaps for want of memory"
            result = Result(entry.photo, str(self._targets.below(entry.inside).output), "failed", error=error)
        else:
            (result,) = restore_each(self._files, self._targets, [entry])
        self._attempts.end.remote(entry.photo)
        return result


def restore_on_ray(
    make_restorer: Callable[[], FaceRestorer],
    references: Sequence[Reference],
    names: Sequence[str],
    options: Options,
    model: Mapping[str, str],
    targets: Targets,
    workers: int,
    device: str,
    plan: Sequence[Entry],
) -> Iterator[Result]:
    """Restores pictures with so many workers, which share the CPUs equally among them, and unless `device` is cpu the
    GPUs; with `auto` they do without where there is none. Results come as tasks end, unordered.

    Raises:
        HonestFaceError: Ray does not start, there is too little for so many workers, or none can load the bundle.
    """
    with cluster(max(workers, os.cpu_count() or 1)) as ray:
        has = ray.cluster_resources()
        share = {"num_cpus": int(has.get("CPU", 0)) // workers, "num_gpus": 0.0}
        if device != "cpu":
            # A worker's GPU is the one that Ray shows it; a part of one where workers share it.
            share["num_gpus"] = min(1.0, has.get("GPU", 0) / workers)
        if not share["num_cpus"] or (device.startswith("cuda") and not share["num_gpus"]):
            there = f"{has.get('CPU', 0):.0f} CPUs and {has.get('GPU', 0):.0f} GPUs"
            raise HonestFaceError(f"{there} are not enough for {workers} workers")
        yield from _results(ray, share, workers, (make_restorer, references, names, options, model, targets), plan)


def _results(
    ray: Any, share: dict[str, float], workers: int, how: tuple[Any, ...], plan: Sequence[Entry]
) -> Iterator[Result]:
    import pyarrow
    from ray.data import ActorPoolStrategy, DataContext, from_arrow

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.verbose_progress = False
    attempts = ray.remote(num_cpus=0)(Attempts).remote()
    # Each worker gets about a hundred tasks: few enough for Ray, and at the end none waits long for another.
    size = min(max(len(plan) // (100 * workers), 1), _LARGEST_TASK)
    tasks = [
        # as bytes, for a name need not be UTF-8
        pyarrow.table({"photo": [os.fsencode(e.photo) for e in part], "inside": [os.fsencode(e.inside) for e in part]})
        for part in (plan[start : start + size] for start in range(0, len(plan), size))
    ]
    restored = from_arrow(tasks).map_batches(
        Worker,
        fn_constructor_args=(*how, attempts),
        batch_size=size,
        compute=ActorPoolStrategy(size=workers),
        **share,
    )
    try:
        for row in restored.iter_rows():
            fields = json.loads(row["result"])
            yield Result(**fields | {"warnings": tuple(fields["warnings"])})
    except ray.exceptions.RayError as error:
        raise HonestFaceError(f"the workers have failed: {str(error).strip().splitlines()[-1]}") from error
