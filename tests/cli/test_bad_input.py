"""What users get wrong: exit code 2, nothing on stdout, one line that says what and why."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.commands import refusal, run

NAME = "olmoe-227m-1.2b"
MODEL = """
name = "x"
source = "s"
hidden_size = 64
vocab_size = 1000
num_hidden_layers = 4
[attention]
num_attention_heads = 4
num_key_value_heads = 2
head_dim = 16
[ffn]
kind = "moe"
num_experts = 8
num_experts_per_tok = 2
moe_intermediate_size = 32
"""
MEMORY = """
[[memory]]
kind = "ultramem"
knum = 10
knn = 4
key_dim = 8
value_dim = 8
"""
GPU = """
name = "My GPU"
hbm_bytes_per_s = 1e12
capacity_bytes = 24_000_000_000
l2_bytes = 50_000_000
dense_peak_flops_per_s = {bf16 = 1e14}
[sources]
hbm_bytes_per_s = "card"
capacity_bytes = "card"
l2_bytes = "card"
"dense_peak_flops_per_s.bf16" = "card"
"""
CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 1000,
}
TRACE = {
    "schema_version": 1,
    "source": "by hand",
    "experts": {"population": 4, "trials": 10, "draws": 2, "counts": [[10, 1], [5, 2], [0, 1]]},
}
D, L, K = "hidden_size = 64", "num_hidden_layers = 4", "num_experts_per_tok = 2"
END = "moe_intermediate_size = 32"
MANY = ",".join(map(str, range(1, 2001)))
OVERRIDE = f"{END}\n[[overrides]]\n"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def check(command: list[str], *words: str) -> None:
    message = refusal(*command)
    assert len(message) < 1200
    for word in words:
        assert word in message, message


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (D, "hidden_size = 64.0", ("hidden_size=64.0", "valid integer")),
        (D, 'hidden_size = "64"', ("hidden_size='64'", "valid integer")),
        (D, "hidden_size = true", ("hidden_size=True", "valid integer")),
        (D, "hidden_size = [64]", ("hidden_size=[64]", "valid integer")),
        (D, "hidden_size = {a = 64}", ("hidden_size={'a': 64}", "valid integer")),
        (D, "hidden_size = -64", ("hidden_size=-64", "greater than or equal to 4")),
        (D, "hidden_size = 0", ("hidden_size=0", "greater than or equal to 4")),
        (D, "hidden_size = nan", ("hidden_size=nan", "valid integer")),
        (D, "hidden_size = -inf", ("hidden_size=-inf", "valid integer")),
        (D, f"hidden_size = {10**400}", ("hidden_size=an integer of 1329 bits", "less than or")),
        (D, f"hidden_size = 1{'0' * 5000}", ("is not TOML", "limit (4300 digits)")),
        (D, f"hidden_size = 0x{'f' * 5000}", ("hidden_size: holds an integer that is too long",)),
        (D, "hidden_size = 1979-05-27", ("hidden_size=datetime.date(1979, 5, 27)", "no JSON type")),
        (D, "", ("hidden_size: is missing",)),
        (D, f"{D}\n{D}", ("is not TOML", "Cannot overwrite a value")),
        (D, f"{D}\nn_embd = 64", ("n_embd=64", "Unexpected keyword argument")),
        (D, f'{D}\n"" = 1', ("''=1", "Unexpected")),
        (D, f'{D}\n"\\u001b[2J\\n" = 1', (r"'\x1b[2J\n'=1", "Unexpected")),
        (D, f"{D}\n{'k' * 5000} = 1", ("kkk", "...", "Unexpected")),
        (D, D + "".join(f"\nz{i} = 1" for i in range(9999)), ("z7=1", "9,991 more broken rules")),
        (f"{D}\nvocab_size = 1000", "hidden_size = 1\nvocab_size = 1", ("hidden_size=1", "vocab_")),
        ('"x"', '""', ("name=''", "at least 1 character")),
        ('"x"', f'"{"n" * 5000}"', ("name='nnn", "at most 120 characters")),
        ('"x"', '"\\u001b[31mred"', (r"name='\x1b[31mred'", "cannot be printed")),
        ('"x"', '"a\\u202Eb\\u0000"', (r"name='a\u202eb\x00'", "cannot be printed")),
        ('"s"', '["s"]', ("source=['s']", "valid string")),
        (L, "num_hidden_layers = 1025", ("num_hidden_layers=1025", "less than or equal to 1024")),
        ("value_heads = 2", "value_heads = 3", ("heads=4: is not a multiple of", "value_heads=3")),
        ("head_dim = 16", f"head_dim = 16\nkind = '{'k' * 5000}'", ("kkk...", "'short_conv'")),
        ("head_dim = 16", "head_dim = 16\nkind = 'rnn'", ("attention=", "'rnn'", "'gqa'", "'mla'")),
        (K, "num_experts_per_tok = 9", ("num_experts_per_tok=9: exceeds num_experts=8",)),
        (K, f"{K}\nn_group = 3", ("n_group=3: does not divide num_experts=8",)),
        ('kind = "moe"', "", ("ffn=", "'kind'")),
        ("[ffn]", "[[ffn]]", ("ffn=[{", "an object")),
        (L, f"{L}\noverrides = {{layers = '1'}}", ("overrides={", "valid array")),
        (L, f"{L}\nmemory = 'ultramem'", ("memory='ultramem'", "valid array")),
        (END, f"{OVERRIDE}layers = '4'", ("layers='4'", "not a range of the 4 layers (0 to 3)")),
        (END, f"{OVERRIDE}layers = '3-1'", ("layers='3-1'", "not a range of the 4 layers")),
        (END, f"{OVERRIDE}layers = ''", ("layers=''", "is not a layer number")),
        (END, f"{OVERRIDE}layers = '0,0'", ("layers='0,0'", "a layer is listed twice")),
        (END, f"{OVERRIDE}layers = '{'9' * 5000}'", ("layers='999", "is not a layer number")),
        (END, f"{OVERRIDE}layers = '0'\nffn.num_experts = 1", ("tok=2: exceeds num_experts=1",)),
        (END, f"{END}\n{MEMORY}layers = '2:5'", ("memory.layers='2:5'", "not a placement in")),
        (END, f"{END}\n{MEMORY}share_ratio = 1.5", ("share_ratio=1.5", "less than or equal to 1")),
        (END, f"{END}\n{MEMORY}share_ratio = 1e-9", ("memory.knn=4: exceeds the 0 rows that",)),
        (END, f"{END}\n{MEMORY}{MEMORY}", ("memory.layers='all': block 0 has a memory layer",)),
        (MODEL, "", ("name: is missing", "attention: is missing")),
        (MODEL, "\x00", ("is not TOML",)),
        (MODEL, "<html>", ("is not TOML",)),
    ],
)  # fmt: skip
def test_models(old: str, new: str, words: tuple[str, ...]) -> None:
    assert old in MODEL
    Path("m.toml").write_text(MODEL.replace(old, new))
    for command in ("predict m.toml --json", f"compare {NAME} m.toml"):
        check(command.split(), "'m.toml'" if "memory.knn" not in words[0] else "memory", *words)


def test_the_base_of_these_cases_is_right() -> None:
    Path("m.toml").write_text(MODEL)
    Path("g.toml").write_text(GPU)
    Path("config.json").write_text(json.dumps(CONFIG))
    Path("t.json").write_text(json.dumps(TRACE))
    assert run("compare", "m.toml", "config.json", "--hardware", "g.toml").code == 0
    Path("m.toml").write_text(MODEL.replace("num_experts = 8", "num_experts = 4"))
    assert run("predict", "m.toml", "--routing", "t.json").code == 0


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("1e12", "-1e12", ("hbm_bytes_per_s=-1000000000000.0", "greater than")),
        ("1e12", "nan", ("hbm_bytes_per_s=nan", "finite number")),
        ("1e12", "0", ("hbm_bytes_per_s=0", "greater than")),
        ("24_000_000_000", "1" + "0" * 400, ("capacity_bytes=an integer of", "less than")),
        ("{bf16 = 1e14}", "1e14", ("dense_peak_flops_per_s=100000000000000.0", "object")),
        ('"My GPU"', '"\\u001b[31m"', (r"name='\x1b[31m'", "cannot be printed")),
        ('"My GPU"', '"a\\n=cmd()"', (r"name='a\n=cmd()'", "cannot be printed")),
        ('l2_bytes = "card"', "", ("sources: has no entry for l2_bytes",)),
    ],
)
def test_hardware(old: str, new: str, words: tuple[str, ...]) -> None:
    assert old in GPU
    Path("g.toml").write_text(GPU.replace(old, new))
    check(["predict", NAME, "--hardware", "g.toml"], *words)
    check(["hardware", "./g.toml"], *words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "no_such_family"}, ("model_type='no_such_family'", "llama, ")),
        ({"model_type": None}, ("model_type=None", "llama, ")),
        ({"hidden_size": -1}, ("hidden_size=-1", "greater than or equal to 4")),
        ({"hidden_size": 10**400}, ("hidden_size=an integer of 1329 bits",)),
        ({"hidden_size": 66}, ("hidden_size=66: is not a multiple of num_attention_heads=4",)),
        ({"num_key_value_heads": 3}, ("is not a multiple of num_key_value_heads=3",)),
        ({"vocab_size": [1]}, ("vocab_size=[1]", "valid integer")),
        ({"\x1b[31m\n": 1}, (r"'\x1b[31m\n'=1", "not understood")),
        ({"num_experts": 8}, ("num_experts=8", "is not modelled")),
        ({"intermediate_size": float("nan")}, ("intermediate_size=nan", "valid integer")),
        ({"_name_or_path": "\ud800"}, ("ends in half a character",)),
    ],
)
def test_configurations(change: dict[str, Any], words: tuple[str, ...]) -> None:
    Path("config.json").write_text(json.dumps(CONFIG | change))
    check(["predict", "config.json"], "file='config.json'", *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", ("holds a list; an object is expected",)),
        ("{}", ("schema_version: is missing", "source: is missing")),
        ('{"schema_version": 2, "source": ""}', ("schema_version=2",)),
        (json.dumps(TRACE | {"experts": None}), ("experts, rows, ngrams: at least one",)),
        (json.dumps(TRACE).replace("10", "-10"), ("-10", "greater than or equal to")),
        (json.dumps(TRACE).replace("10", "1e400"), ("number '1e400' is not finite",)),
        (json.dumps(TRACE), ("population", "64")),  # of 4 experts, and the model has 64
    ],
)
def test_histograms(text: str, words: tuple[str, ...]) -> None:
    Path("t.json").write_text(text)
    check(["predict", "olmoe-1b-7b", "--routing", "t.json"], *words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--batch 0", ("batch='0': must be a whole number from 1 to 1,048,576",)),
        ("--batch -1", ("batch='-1'",)),
        ("--batch 1.5", ("batch='1.5'",)),
        ("--batch nan", ("batch='nan'",)),
        ("--batch 1,2", ("batch='1,2': one value is expected here",)),
        ("--batch 1048577", ("batch='1048577'",)),
        (f"--batch 1{'0' * 400}", ("batch='1000", "...", "must be a whole number")),
        ("--context -1", ("context='-1': must be a whole number from 0 to 134,217,728",)),
        ("--context=", ("context=''",)),
        ("--new-tokens 2", ("new_tokens=2: is 1 in a decode step",)),
        ("--new-tokens=", ("new_tokens=''",)),
        ("--phase prefill --new-tokens 0", ("new_tokens='0': must be a whole number from 1 to",)),
        ("--dtype bf17", ("dtype='bf17': is one of fp32, bf16",)),
        ("--dtype bf16:8", ("dtype='bf16:8'", "may add :GROUP")),
        ("--dtype int4:7", ("dtype='int4:7': a group holds 8 to 65536 elements",)),
        ("--kv-dtype=", ("kv_dtype=''",)),
        ("--kv-dtype fp4", ("kv_dtype='fp4'",)),
        ("--routing zipf:nan", ("routing='zipf:nan'", "a number from 0 to 10")),
        ("--routing none.json", ("routing='none.json'", "a histogram file")),
        ("--routing .", ("file='.': is a directory",)),
        ("--hardware no-such-gpu", ("hardware='no-such-gpu'", "h200")),
        ("--hardware ../h200", ("file='../h200': does not exist",)),
        ("--hardware=", ("hardware=''",)),
        ("--calibration h2000", ("calibration='h2000'", "the path of a .json file")),
        ("--calibration a.json", ("file='a.json': does not exist",)),
        ("--calibration=", ("calibration=''", "nor none")),
        ("--json --markdown", ("exclude one another",)),
        ("--csv a.txt", ("csv='a.txt': ends in .csv",)),
        ("--csv none/a.csv", ("csv='none/a.csv': cannot be written: No such file",)),
        (f"--csv {'x' * 300}.csv", ("cannot be written: File name too long",)),
    ],
)
def test_options(options: str, words: tuple[str, ...]) -> None:
    check(["predict", NAME, *shlex.split(options)], *words)
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("predict no-such-model", ("model='no-such-model'", "the presets are", NAME)),
        ("predict ''", ("model=''", "the presets are")),
        (f"predict {'x' * 5000}", ("model='xxx", "...", "the presets are")),
        (f"predict {'x' * 5000}.toml", ("File name too long",)),
        (f"predict ../models/{NAME}", ("does not exist",)),
        (f"predict ./{NAME}", ("does not exist",)),
        (f"predict {NAME}.toml", ("does not exist",)),
        ("predict .", ("file='.': is a directory",)),
        ("predict none/none.json", ("file='none/none.json': does not exist",)),
        ("predict /etc/passwd", ("is not TOML",)),
        ("predict ':smile:'", ("model=':smile:'",)),
        ("predict '[red]x'", ("model='[red]x'",)),
        ("predict \x1b[31m\x07", (r"model='\x1b[31m\x07'",)),
        ("models ../h200", ("does not exist",)),
        ("hardware ../h200", ("does not exist",)),
        (f"compare {NAME}", ("models=1: two to 8 models are compared",)),
        (f"compare {f'{NAME} ' * 9}", ("models=9: two to 8 models are compared",)),
        (f"compare {NAME} {NAME} --batch 4,4", ("batch='4,4': a value is listed twice",)),
        (f"compare {NAME} {NAME} --batch ,", ("batch=''",)),
        (f"compare {NAME} {NAME} --context 1,2", ("context='1,2': one value is expected",)),
        (f"sweep {NAME} --out a.xlsx", ("out='a.xlsx': ends in one of .csv, .json, .parquet",)),
        (f"sweep {NAME} --out none/a.csv", ("cannot be written: No such file",)),
        (f"sweep {NAME} --hardware h200,", ("hardware=''",)),
        (f"sweep {NAME} --routing uniform,,", ("routing=''",)),
        (f"sweep {NAME} --batch {','.join(map(str, range(1, 4098)))}", ("holds 4,097 values",)),
        (
            f"sweep {NAME} --batch {MANY} --context {MANY} --routing uniform,zipf:1",
            ("sweep=8000000", "at most 5,000,000 points"),
        ),
        (f"sweep {NAME} --new-tokens 1,2", ("new_tokens='1,2'",)),
    ],
)
def test_commands(command: str, words: tuple[str, ...]) -> None:
    check(shlex.split(command), *words)
    assert list(Path().iterdir()) == []
