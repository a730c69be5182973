"""The sidebar's values checked together: what one alone allows, a model may refuse."""

import pytest

from costmodel.errors import InputError
from tests.dashboard.pages import chosen


def test_a_cache_of_latents_needs_latent_attention() -> None:
    assert chosen(model="deepseek-v3", kv_dtype="fp8_ds_mla").workload.kv_dtype.bits == 8
    with pytest.raises(InputError, match="kv_dtype=fp8_ds_mla"):
        chosen(model="olmoe-1b-7b", kv_dtype="fp8_ds_mla")


def test_conventions_of_caches_reach_the_workload() -> None:
    workload = chosen(mla_cache="expanded", window_cache="whole").workload
    assert (workload.mla_cache, workload.window_cache) == ("expanded", "whole")
    assert not workload.caches_as_run
    assert chosen().workload.caches_as_run
