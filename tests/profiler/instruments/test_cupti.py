"""CUPTI's structs, its library and its errors, against NVIDIA's own headers and library."""

import shutil
import subprocess
from pathlib import Path

import pytest

from costmodel.errors import WorkError
from profiler.instruments.cupti import (
    CounterError,
    CountersBusyError,
    CountersUnavailableError,
    Cupti,
    DeviceLostError,
    PermissionRefusedError,
    library_files,
    load_library,
)
from profiler.instruments.cupti_structs import (
    PARAMETERS,
    RANGE_PROFILER,
    USER_RANGE,
    USER_REPLAY,
    struct_size,
)
from tests.profiler.instruments.fake_cupti import HEADER_SIZES, FakeCupti

INCLUDE = Path("/usr/local/cuda-13.0/include")
HEADER_NAMES = {  # where the struct is not named after its function
    "cuptiProfilerInitialize": "CUpti_Profiler_Initialize_Params",
    "cuptiDeviceGetChipName": "CUpti_Device_GetChipName_Params",
    "cuptiRangeProfilerCounterDataImageInitialize": (
        "CUpti_RangeProfiler_CounterDataImage_Initialize_Params"
    ),
    "cuptiRangeProfilerCounterDataGetRangeInfo": (
        "CUpti_RangeProfiler_CounterData_GetRangeInfo_Params"
    ),
}


def header_name(function: str) -> str:
    """CUpti_Profiler_Host_X_Params for cuptiProfilerHostX, CUpti_RangeProfiler_X_Params."""
    name = function.replace("cuptiProfilerHost", "CUpti_Profiler_Host_")
    name = name.replace("cuptiRangeProfiler", "CUpti_RangeProfiler_")
    return HEADER_NAMES.get(function, f"{name}_Params")


def test_every_struct_has_the_size_that_the_headers_state() -> None:
    assert {name: struct_size(struct) for name, struct in PARAMETERS.items()} == HEADER_SIZES


@pytest.mark.skipif(
    not ((INCLUDE / "cupti_range_profiler.h").exists() and shutil.which("g++")),
    reason="needs the headers of CUDA 13.0 and g++",
)
def test_every_field_lies_where_a_compiler_puts_it(tmp_path: Path) -> None:
    headers = ("target", "profiler_target", "profiler_host", "range_profiler")
    lines = [f"#include <cupti_{header}.h>" for header in headers]
    lines += ["#include <cstdio>", "#define AT(s, f) offsetof(s, f), sizeof(((s*)0)->f)"]
    lines += ["int main() {"]
    modes = "CUPTI_PROFILER_TYPE_RANGE_PROFILER, CUPTI_UserRange, CUPTI_UserReplay"
    lines += [f'printf("%d %d %d\\n", {modes});']
    expected = [f"{RANGE_PROFILER} {USER_RANGE} {USER_REPLAY}"]
    for function, struct in PARAMETERS.items():
        name = header_name(function)
        lines += [f'printf("{function} %zu\\n", (size_t){name}_STRUCT_SIZE);']
        expected += [f"{function} {struct_size(struct)}"]
        for field in struct._fields_:
            lines += [f'printf("{field[0]} %zu %zu\\n", AT({name}, {field[0]}));']
            at = getattr(struct, field[0])
            expected += [f"{field[0]} {at.offset} {at.size}"]
    source, program = tmp_path / "layout.cc", tmp_path / "layout"
    source.write_text("\n".join([*lines, "}"]))
    subprocess.run(["g++", "-I", INCLUDE, source, "-o", program], check=True)  # noqa: S607
    printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    assert printed.splitlines() == expected


def test_a_misspelt_field_fails_instead_of_being_ignored() -> None:
    with pytest.raises(AttributeError):
        Cupti(FakeCupti()).call("cuptiDeviceGetChipName", deviceIdx=0)


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (35, PermissionRefusedError, "NVreg_RestrictProfilingToAdminUsers=0"),
        (35, PermissionRefusedError, "CAP_SYS_ADMIN"),
        (40, PermissionRefusedError, "hypervisor"),
        (26, CountersBusyError, "DCGM"),
        (23, CountersBusyError, "stop it"),
        (39, CountersBusyError, "ncu"),
        (9, DeviceLostError, "hardware failed"),
        (43, CountersUnavailableError, "MIG"),
        (46, CountersUnavailableError, "does not know the GPU"),
    ],
)
def test_a_code_that_a_user_can_act_upon_has_its_own_error_and_says_what_to_do(
    code: int, kind: type[CounterError], words: str
) -> None:
    cupti = Cupti(FakeCupti(failing={"cuptiRangeProfilerEnable": code}))
    with pytest.raises(kind, match=words) as caught:
        cupti.call("cuptiRangeProfilerEnable", ctx=1)
    assert type(caught.value) is kind
    assert f"({code})" in str(caught.value)
    assert isinstance(caught.value, WorkError)


def test_another_code_is_named_as_cupti_names_it() -> None:
    cupti = Cupti(FakeCupti(failing={"cuptiProfilerInitialize": 999}))
    with pytest.raises(CounterError) as caught:
        cupti.call("cuptiProfilerInitialize")
    assert type(caught.value) is CounterError
    assert str(caught.value) == "cuptiProfilerInitialize failed with CUPTI_ERROR_UNKNOWN (999)"


def test_a_vague_code_is_a_lost_device_where_the_driver_says_so() -> None:
    cupti = Cupti(FakeCupti(lost_after=0))
    with pytest.raises(DeviceLostError, match=r"CUDA_ERROR_LAUNCH_FAILED \(719\)"):
        cupti.call("cuptiProfilerInitialize")


def test_a_library_without_the_function_is_too_old() -> None:
    with pytest.raises(CountersUnavailableError, match=r"older than CUDA 12\.6"):
        Cupti(object()).call("cuptiRangeProfilerEnable")


def test_a_thread_without_a_cuda_context_has_no_counters() -> None:
    with pytest.raises(CountersUnavailableError, match="no CUDA context"):
        Cupti(FakeCupti(context=None)).current()


def test_a_failing_end_does_not_hide_why_it_ended() -> None:
    fake = FakeCupti(failing={"cuptiRangeProfilerPopRange": 999})
    cupti = Cupti(fake)
    with (
        pytest.raises(ValueError, match="the reason"),
        cupti.afterwards("cuptiRangeProfilerPopRange"),
    ):
        raise ValueError("the reason")
    with pytest.raises(CounterError), cupti.afterwards("cuptiRangeProfilerPopRange"):
        pass
    assert fake.calls == ["cuptiRangeProfilerPopRange"] * 2


def test_the_library_of_this_process_comes_first_then_wheels_then_the_system(
    tmp_path: Path,
) -> None:
    wheel = tmp_path / "b" / "nvidia" / "cu13" / "lib" / "libcupti.so.13"
    older = tmp_path / "a" / "nvidia" / "cuda_cupti" / "lib" / "libcupti.so.12"
    for file in (wheel, older):
        file.parent.mkdir(parents=True)
        file.touch()
    maps = (
        "7f00-7f10 r-xp 00000000 08:01 99   /opt/with space/libcupti.so.13\n"
        "7f10-7f20 rw-p 00010000 08:01 99   /opt/with space/libcupti.so.13\n"
        "7f20-7f30 rw-p 00000000 00:00 0 \n"
        "7f30-7f40 r-xp 00000000 08:01 98   /usr/lib/libc.so.6\n"
    )
    folders = [str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "absent")]
    assert library_files(maps, folders) == [
        "/opt/with space/libcupti.so.13",
        str(wheel),
        str(older),
        "libcupti.so.13",
        "libcupti.so.12",
    ]


def test_without_an_nvidia_gpu_there_are_no_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(CountersUnavailableError, match="no NVIDIA GPU"):
        load_library()
