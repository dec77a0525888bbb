import asyncio

import torch

from models.references import Reference
from service.metrics import Metrics
from service.reference_sets import ReferenceStore
from service.settings import Settings


def test_cached_references_and_sets_each_have_their_own_time() -> None:
    now, analysed = 0.0, []

    async def analyse(data: bytes) -> Reference:
        analysed.append(now)
        return Reference(torch.zeros(3, 8, 8), torch.zeros(68, 2), torch.ones(3))

    async def use() -> None:
        nonlocal now
        store = ReferenceStore(Settings(cache_ttl_s=10, reference_set_ttl_s=100), Metrics(), lambda: now)
        await store.put("anna", "album", [await store.analysed(b"file", analyse)])
        now = 9
        await store.analysed(b"file", analyse)
        now = 20
        await store.analysed(b"file", analyse)
        assert (await store.get("anna", "album")).references

    asyncio.run(use())
    assert analysed == [0, 20]
