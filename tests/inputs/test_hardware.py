import dataclasses
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.errors import InputError
from costmodel.inputs.hardware import ALIASES, hardware_name, hardware_names, load_hardware

# Typed from the documents as they print them: GB/s, GB (only named in the capacity's source), L2 in
# MiB, W, then TFLOP/s of bf16, fp16, fp8, int8 and fp32. A pair is (as printed, divisor): 2 for a
# number with sparsity; nan: none.
PRINTED = {
    "h200": (4800, 141, 60, 700, (1979, 2), (1979, 2), (3958, 2), (3958, 2), 66.9),
    "h100-sxm": (3350, 80, 50, 700, (1978.9, 2), (1978.9, 2), (3957.8, 2), (3957.8, 2), 66.9),
    "h100-pcie": (2000, 80, 50, 350, (756, 1), (756, 1), (3026, 2), (3026, 2), 51.2),
    "a100-80gb": (2039, 80, 40, 400, (624, 2), (624, 2), (math.nan, 1), (1248, 2), 19.5),
    "b200": (7700, 180, 126.5, 1000, (4500, 2), (4500, 2), (9000, 2), (9000, 2), 75),
    "gb200-nvl72": (8000, 186, 126.5, 1200, (5000, 2), (5000, 2), (10_000, 2), (10_000, 2), 80),
    "l40s": (864, 48, 96, 350, (362.05, 1), (362.05, 1), (1466, 2), (1466, 2), 91.6),
    "rtx-4090": (1008, 24, 72, 450, (330.4, 2), (330.4, 2), (660.6, 2), (1321.2, 2), 82.6),
    "mi300x": (5300, 192, 256, 750, (2614.9, 2), (2614.9, 2), (5229.8, 2), (5229.8, 2), 163.4),
    "b300": (8000, 288, 126.5, 1400, (4500, 2), (4500, 2), (9000, 2), (math.nan, 1), 75),
    "h20": (4000, 96, 60, 400, (148, 1), (148, 1), (296, 1), (296, 1), 44),
    "gh200-96gb": (4000, 96, 60, 1000, (1978.9, 2), (1978.9, 2), (3957.8, 2), (3957.8, 2), 66.9),
    "gb10": (273, 128, 24, 140, (1000, 8), (1000, 8), (1000, 4), (math.nan, 1), 31),
    "mi250": (3276.8, 128, 16, 560, (362.1, 1), (362.1, 1), (math.nan, 1), (362.1, 1), 45.3),
}

# Driver reports: allocatable MiB as cudaDeviceProp.totalGlobalMem gives them, all digits, and the
# whole MiB of the board (nvidia-smi's or rocm-smi's total), of which the driver keeps a part. Of
# the other presets no report was at hand: their capacity is the datasheet's.
DRIVER = {
    "h200": (143_155.9375, 143_771),
    "h100-sxm": (81_079.25, 81_559),
    "h100-pcie": (81_089.875, 81_559),
    "a100-80gb": (81_153.75, 81_920),
    "b200": (182_631.5, 183_359),
    "gb200-nvl72": (188_728.5, 189_471),
    "l40s": (45_459.5, 46_068),
    "rtx-4090": (24_080.875, 24_564),
    "mi300x": (196_592, 196_592),
}

# Dense bf16 FLOP per clock and SM (AMD: CU), SMs and boost clock in MHz, where all are published.
SILICON = {
    "h200": (4096, 132, 1830),
    "h100-sxm": (4096, 132, 1830),
    "a100-80gb": (2048, 108, 1410),
    "rtx-4090": (512, 128, 2520),
    "mi300x": (2048, 304, 2100),
    "gh200-96gb": (4096, 132, 1830),
    "mi250": (1024, 208, 1700),
}

# Links between GPUs as documents print them: GPUs of a node, GB/s of one GPU in both directions
# (AMD: of one link in one, and how many), whether the switch adds, Gb/s of its network adapter.
BETWEEN_GPUS = {
    "h200": (8, 900 / 2, True, 400),
    "h100-sxm": (8, 900 / 2, True, 400),
    "h100-pcie": (8, 128 / 2, False, None),
    "a100-80gb": (8, 600 / 2, False, 200),
    "b200": (8, 1800 / 2, True, 400),
    "gb200-nvl72": (72, 1800 / 2, True, 400),
    "l40s": (8, 64 / 2, False, None),
    "rtx-4090": (8, 64 / 2, False, None),
    "mi300x": (8, 64 * 7, False, 400),
    "b300": (8, 1800 / 2, True, 800),
    "h20": (8, 900 / 2, True, None),
}

PEAKS = ("bf16", "fp16", "fp8", "int8", "fp32")

OWN = """
name = "My GPU"
hbm_bytes_per_s = 1_000_000_000_000
capacity_bytes = 24_000_000_000
l2_bytes = 50_000_000

[dense_peak_flops_per_s]
bf16 = 100e12

[sources]
hbm_bytes_per_s = "card"
capacity_bytes = "card"
l2_bytes = "card"
"dense_peak_flops_per_s.bf16" = "card"
"""


NODE = """[node]
name = "My links"
kind = "nvlink"
gpus = 8
bytes_per_s = 900e9

[sources]"""


def written(folder: Path, text: str) -> str:
    path = folder / "gpu.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def refusal(name_or_path: str) -> str:
    with pytest.raises(InputError) as caught:
        load_hardware(name_or_path)
    return str(caught.value)


def test_presets_are_the_promised_ones() -> None:
    assert hardware_names() == tuple(sorted(PRINTED))


@pytest.mark.parametrize("name", sorted(PRINTED))
def test_preset_agrees_with_the_documents(name: str) -> None:
    gb_per_s, gb, l2_mib, watts, *matrix, fp32 = PRINTED[name]
    gpu = load_hardware(name)
    assert gpu.hbm_bytes_per_s == gb_per_s * 1e9
    source = gpu.sources["capacity_bytes"]
    assert f": {gb} GB" in source
    if name in DRIVER:
        allocatable_mib, board_mib = DRIVER[name]
        assert gpu.capacity_bytes == allocatable_mib * 2**20
        assert 0.98 * board_mib <= allocatable_mib <= board_mib
        assert gb * 1e9 == pytest.approx(gpu.capacity_bytes, rel=0.08)
        assert source.startswith("reported by the driver")
        assert f"{board_mib} MiB" in source
    else:
        assert gpu.capacity_bytes == gb * 1e9
        assert source.startswith("no driver's report at hand")
    assert gpu.l2_bytes == l2_mib * 2**20
    assert gpu.tdp_w == watts
    for peak, (printed, divisor) in zip(PEAKS, [*matrix, (fp32, 1)], strict=True):
        value = gpu.numbers().get(f"dense_peak_flops_per_s.{peak}", math.nan)
        assert value == pytest.approx(printed / divisor * 1e12, rel=2e-4, nan_ok=True), peak


@pytest.mark.parametrize("name", sorted(SILICON))
def test_bf16_peak_is_what_the_silicon_does_without_sparsity(name: str) -> None:
    peak, _ = load_hardware(name).peak_flops_per_s("bf16")
    assert peak == pytest.approx(math.prod(SILICON[name]) * 1e6, rel=1e-3)


@pytest.mark.parametrize("name", sorted(PRINTED))
def test_a_link_does_what_its_generation_and_lanes_do(name: str) -> None:
    """PCIe 4.0 has 16e9 transfers/s a lane, 5.0 has 32e9; datasheets leave out their encoding."""
    link = load_hardware(name).link
    if name in ("b200", "b300", "gb200-nvl72", "gb10", "mi250"):  # documents differ, or none has it
        assert link is None
        return
    assert link is not None
    if name == "gh200-96gb":
        assert (link.name, link.bytes_per_s) == ("NVLink-C2C", 900e9 / 2)
        return
    generation, lanes = link.name.removeprefix("PCIe ").split(" x")
    assert link.bytes_per_s == {"4.0": 16e9, "5.0": 32e9}[generation] * int(lanes) / 8


@pytest.mark.parametrize("name", sorted(BETWEEN_GPUS))
def test_links_between_gpus_are_those_of_one_direction(name: str) -> None:
    gpus, gb_per_s, reduces, gbit_per_s = BETWEEN_GPUS[name]
    node, network = load_hardware(name).node, load_hardware(name).network
    assert node is not None
    assert (node.gpus, node.bytes_per_s, node.reduces) == (gpus, gb_per_s * 1e9, reduces)
    assert node.name.lower().startswith(node.kind.replace("_", " "))
    assert (network and network.bytes_per_s) == (gbit_per_s and gbit_per_s * 1e9 / 8)


def test_a_gpu_without_known_links_has_none_to_others() -> None:
    alone = [name for name in hardware_names() if load_hardware(name).node is None]
    assert set(alone) == set(PRINTED) - set(BETWEEN_GPUS)


def test_tensor_cores_do_tf32_at_half_the_rate_of_bf16() -> None:
    known = [load_hardware(name).dense_peak_flops_per_s for name in hardware_names()]
    of_tensor_cores = [peaks for peaks in known if peaks.tf32 is not None]
    assert len(of_tensor_cores) == 11  # NVIDIA's
    for peaks in of_tensor_cores:
        assert peaks.tf32 == pytest.approx(peaks.bf16 / 2, rel=0.025)  # datasheets round


@pytest.mark.parametrize("name", hardware_names())
def test_every_number_of_a_preset_has_a_source(name: str) -> None:
    gpu = load_hardware(name)
    assert set(gpu.sources) == set(gpu.numbers())
    five, seven = ("a100-80gb", "mi300x", "gb10"), ("b200", "gb200-nvl72")
    peaks = 4 if name == "mi250" else 5 if name in five else 7 if name in seven else 6
    links = (gpu.link is not None) + 2 * (gpu.node is not None) + (gpu.network is not None)
    assert len(gpu.numbers()) == 4 + peaks + links
    for path, source in gpu.sources.items():
        assert len(source) > 20, path
        assert source.isascii()


def test_a_hardware_is_frozen_keys_a_dict_and_has_a_name_in_any_case() -> None:
    gpu = load_hardware("h200")
    assert {gpu: 1}[load_hardware("H200")] == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        gpu.l2_bytes = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "dtype", "tflops", "used"),
    [
        ("h200", "bf16", 989.4, "bf16"),
        ("h200", "fp8", 1978.9, "fp8"),
        ("h200", "int4", 1978.9, "int8"),  # W4A8 kernels exist; as fast as fp8
        ("h200", "fp32", 66.9, "fp32"),
        ("a100-80gb", "fp8", 312, "bf16"),  # no fp8: weights are dequantised
        ("h200", "mxfp4", 989.4, "bf16"),  # no fp4 units
        ("h200", "nvfp4", 989.4, "bf16"),
        ("b200", "mxfp4", 9000, "fp4"),
        ("b200", "nf4", 2250, "bf16"),  # a table of 16 values, which is looked up
        ("h200", "tf32", 494.7, "tf32"),
    ],
)
def test_peak_of_a_compute_dtype(name: str, dtype: str, tflops: float, used: str) -> None:
    value, peak = load_hardware(name).peak_flops_per_s(dtype)
    assert peak == used
    assert value == pytest.approx(tflops * 1e12)


def test_own_hardware_with_bf16_alone_computes_in_it(tmp_path: Path) -> None:
    gpu = load_hardware(written(tmp_path, OWN))
    assert gpu.tdp_w is None
    assert gpu.hbm_bytes_per_s == 1e12  # an integer in the file
    assert isinstance(gpu.hbm_bytes_per_s, float)
    for dtype in ("bf16", "fp16", "fp8", "int8", "int4", "mxfp4", "nvfp4", "nf4"):
        assert gpu.peak_flops_per_s(dtype) == (100e12, "bf16")
    with pytest.raises(InputError, match=r"dtype='fp32': needs dense_peak_flops_per_s\.fp32"):
        gpu.peak_flops_per_s("fp32")
    for dtype in ("", "BF16", "bf8", "numbers"):
        with pytest.raises(InputError, match=f"dtype='{dtype}': is not one of bf16, fp16, fp8"):
            gpu.peak_flops_per_s(dtype)


@pytest.mark.parametrize(
    ("typed", "preset"),
    [
        ("h100", "h100-sxm"),
        ("H100-80GB-HBM3", "h100-sxm"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("h100_pcie", "h100-pcie"),
        ("a100", "a100-80gb"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA GB200", "gb200-nvl72"),
        ("GeForce RTX 4090", "rtx-4090"),
        ("4090", "rtx-4090"),
        ("AMD Instinct MI300X", "mi300x"),
    ],
)
def test_other_names_stand_for_presets(typed: str, preset: str) -> None:
    assert hardware_name(typed) == preset
    assert load_hardware(typed) == load_hardware(preset)


def test_a_name_that_stands_for_nothing_stays_as_it_is() -> None:
    assert hardware_name("NVIDIA H300") == "nvidia h300"
    assert set(ALIASES.values()) <= set(hardware_names())
    assert not set(ALIASES) & set(hardware_names())
    assert "(did you mean h20 or h200" in refusal("h201")


@pytest.mark.parametrize("name", ["h300", "", " ", "..", ".", "h200\0", "*", "h200.TXT"])
def test_unknown_preset_lists_the_presets(name: str) -> None:
    message = refusal(name)
    assert message.startswith(f"hardware={name!r}: is neither a preset (a100-80gb, b200, ")
    assert "nor the path of a .toml file" in message


@pytest.mark.parametrize("name", ["../x", "h200/../h200", "/no", "h200/", "./none.toml", "/"])
def test_anything_like_a_path_is_the_users_and_never_in_the_presets(name: str) -> None:
    reason = "is a directory; a file is expected" if name == "/" else "does not exist"
    assert refusal(name) == f"file={str(Path(name))!r}: {reason}"


def test_a_file_in_the_working_folder_does_not_shadow_a_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "h200").write_text(OWN)
    assert load_hardware("h200").name == "NVIDIA H200 SXM"
    (tmp_path / "h200.toml").write_text(OWN)
    assert load_hardware("h200.toml").name == "My GPU"


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("24_000_000_000", "24e9", ("capacity_bytes=24000000000.0", "integer")),
        ("24_000_000_000", "1" + "0" * 400, ("capacity_bytes=an integer of", "less than")),
        ("50_000_000", "50", ("l2_bytes=50", "greater than or equal to")),
        ("1_000_000_000_000", "4.8", ("hbm_bytes_per_s=4.8", "greater than or equal to")),
        ("1_000_000_000_000", "-1e12", ("hbm_bytes_per_s=-1000000000000.0", "greater than")),
        ("1_000_000_000_000", "1" + "0" * 400, ("hbm_bytes_per_s=", "finite number")),
        ("1_000_000_000_000", "1" + "0" * 5000, ("is not TOML",)),
        ("1_000_000_000_000", "nan", ("hbm_bytes_per_s=nan", "finite number")),
        ("1_000_000_000_000", '"fast"', ("hbm_bytes_per_s='fast'", "valid number")),
        ("1_000_000_000_000", "1979-05-27", ("no JSON type",)),
        ("bf16 = 100e12", "", ("dense_peak_flops_per_s.bf16: is missing",)),
        ("bf16 = 100e12", "bf16 = 1e14\nbf8 = 1e14", ("dense_peak_flops_per_s.bf8=", "argument")),
        ('"My GPU"', '"My GPU"\nprice = 1', ("price=1", "Unexpected keyword argument")),
        ('"My GPU"', '"My GPU"\ntdp_w = 300', ("sources: has no entry for tdp_w=300.0;",)),
        ("bf16 = 100e12", "bf16 = 1e14\nfp8 = 2e14", ("no entry for dense_peak_flops_per_s.fp8=",)),
        ('l2_bytes = "card"', "", ("sources: has no entry for l2_bytes=50000000;",)),
        ('l2_bytes = "card"', 'l2_bytes = " "', ("sources.l2_bytes=' '", "pattern")),
        ('l2_bytes = "card"', "l2_bytes = 7", ("sources.l2_bytes=7", "valid string")),
        ("[sources]", '[sources]\ntdp_w = "card"', ("sources: has an entry for 'tdp_w', which",)),
        ("[sources]", "[origins]", ("sources: is missing", "origins=")),
        (
            "[sources]",
            NODE,
            ("sources: has no entry for node.gpus=8, node.bytes_per_s=900000000000.0",),
        ),
        ("[sources]", NODE.replace("= 8", "= 1"), ("node.gpus=1", "greater than or equal to 2")),
        ("[sources]", NODE.replace("e9", ""), ("node.bytes_per_s=900:", "greater than")),
        ("[sources]", NODE.replace("nvlink", "token ring"), ("node.kind='token ring'", "'pcie'")),
    ],
)
def test_a_broken_rule_names_field_value_and_rule(
    old: str, new: str, parts: tuple[str, ...], tmp_path: Path
) -> None:
    assert old in OWN
    message = refusal(written(tmp_path, OWN.replace(old, new)))
    assert message.startswith("file='")
    assert "\n" not in message
    for part in parts:
        assert part in message


@given(st.text())
def test_no_text_but_a_preset_or_a_path_loads(text: str) -> None:
    if hardware_name(text) not in hardware_names():
        with pytest.raises(InputError):
            load_hardware(text)
