"""Which device an instance gets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from task_manager.placement import CPU, Gpu, Placement, Tenant, gpu_of, place
from tests.unit.running import spec

A, B = Gpu("0", 8000), Gpu("1", 8000)


def test_a_model_without_gpu_goes_to_the_cpu_whatever_there_is() -> None:
    assert place(spec(), [A], []) == Placement(CPU)
    assert place(spec(), [], []) == Placement(CPU)


def test_a_gpu_model_without_gpus_says_what_is_missing() -> None:
    found = place(spec(run_on_gpu=True), [], [])
    assert found.device == ""
    assert "run_on_gpu" in found.reason
    assert "gpus" in found.reason


def test_the_emptiest_gpu_is_chosen_and_the_first_of_equals() -> None:
    model = spec("new", run_on_gpu=True, gpu_memory_mib=1000)
    assert place(model, [A, B], []).device == "gpu:0"
    assert place(model, [A, B], [Tenant("gpu:0", "other", "1", 500)]).device == "gpu:1"
    one_each = [Tenant("gpu:0", "a", "1", 3000), Tenant("gpu:1", "b", "1", 2000)]
    assert place(model, [A, B], one_each).device == "gpu:1"


def test_two_copies_of_one_model_never_share_a_gpu() -> None:
    model = spec(run_on_gpu=True, gpu_memory_mib=10)
    first = Tenant("gpu:0", *model.key, 10)
    assert place(model, [A, B], [first]).device == "gpu:1"
    found = place(model, [A], [first])
    assert found == Placement("", "no GPU can take it: GPU 0 runs a copy of it already")


def test_another_version_of_a_model_may_share_its_gpu() -> None:
    second = spec(run_on_gpu=True, gpu_memory_mib=10, version="2")
    assert place(second, [A], [Tenant("gpu:0", "scale", "1", 10)]).device == "gpu:0"


@pytest.mark.parametrize(
    ("needs", "held", "reason"),
    [
        (9000, [], "GPU 0 has 8000 MiB, the model needs 9000 MiB"),
        (3000, [("big", 6000)], "GPU 0 has 2000 of 8000 MiB left beside big, the model needs 3000 MiB"),
        (0, [("big", 6000)], "GPU 0 is shared only by models that declare gpu_memory_mib, and it runs big"),
        (10, [("big", 0)], "GPU 0 runs big, not all of which declare gpu_memory_mib"),
    ],
)
def test_a_gpu_that_cannot_take_a_model_says_why(needs: int, held: list[tuple[str, int]], reason: str) -> None:
    tenants = [Tenant("gpu:0", name, "1", memory) for name, memory in held]
    found = place(spec(run_on_gpu=True, gpu_memory_mib=needs), [A], tenants)
    assert found == Placement("", f"no GPU can take it: {reason}")


def test_a_gpu_of_unknown_memory_is_shared_unchecked() -> None:
    tenants = [Tenant("gpu:0", "other", "1", 0), Tenant("gpu:0", "third", "1", 99_000)]
    assert place(spec(run_on_gpu=True), [Gpu("0")], tenants).device == "gpu:0"


def test_a_gpu_is_known_by_its_uuid_too() -> None:
    device = place(spec(run_on_gpu=True), [Gpu("GPU-8f2a", 0)], []).device
    assert gpu_of(device) == "GPU-8f2a"
    assert gpu_of(CPU) == ""


@given(
    st.lists(st.sampled_from([0, 4000, 8000]), min_size=0, max_size=3),
    st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from([0, 1000, 2500, 5000])), max_size=14),
)
def test_whatever_is_placed_one_after_another_fits(memories: list[int], wanted: list[tuple[str, int]]) -> None:
    gpus = [Gpu(str(index), memory) for index, memory in enumerate(memories)]
    declared = dict(wanted)
    tenants: list[Tenant] = []
    for name, _ in wanted:
        model = spec(name, run_on_gpu=True, gpu_memory_mib=declared[name])
        found = place(model, gpus, tenants)
        assert bool(found.device) != bool(found.reason)
        if found.device:
            tenants.append(Tenant(found.device, *model.key, model.gpu_memory_mib))
    for gpu in gpus:
        held = [tenant for tenant in tenants if tenant.device == f"gpu:{gpu.id}"]
        assert len({tenant.model for tenant in held}) == len(held)
        if gpu.memory_mib and len(held) > 1:
            assert all(tenant.memory_mib for tenant in held)
        if gpu.memory_mib:
            assert sum(tenant.memory_mib for tenant in held) <= gpu.memory_mib
