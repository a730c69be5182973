"""Names that are no preset: hub names, addresses, slips."""

import pytest

from costmodel.inputs.typed_names import did_you_mean, not_fetched, preset_like

PRESETS = ("gpt-oss-120b", "gpt-oss-20b", "llama-3.1-8b", "olmoe-1b-7b", "qwen3-30b-a3b")


@pytest.mark.parametrize(
    ("hub_name", "preset"),
    [
        ("Qwen/Qwen3-30B-A3B", "qwen3-30b-a3b"),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507-FP8", "qwen3-30b-a3b"),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("openai/gpt-oss-20b", "gpt-oss-20b"),
        ("allenai/OLMoE-1B-7B-0924", "olmoe-1b-7b"),
        ("openai/gpt-oss-20", None),
        ("Qwen/Qwen3-30B-A3", None),
        ("someone/my-gpt-oss-20b", None),
        ("", None),
    ],
)
def test_the_preset_of_a_hub_name(hub_name: str, preset: str | None) -> None:
    assert preset_like(hub_name, PRESETS) == preset


@pytest.mark.parametrize(
    "typed",
    [
        "openai/gpt-oss-20b",
        "https://huggingface.co/openai/gpt-oss-20b",
        "https://huggingface.co/openai/gpt-oss-20b/blob/main/config.json",
        "HTTP://hf.co/openai/gpt-oss-20b?download=true",
        "hf.co/openai/gpt-oss-20b",
        "hf://openai/gpt-oss-20b",
    ],
)
def test_what_would_have_to_be_fetched_is_refused_with_the_preset(typed: str) -> None:
    message = str(not_fetched(typed, PRESETS))
    assert message.startswith("model=")
    assert "nothing is fetched" in message
    assert "config.json" in message
    assert "the preset gpt-oss-20b may be" in message


@pytest.mark.parametrize("typed", ["http://[::1", "https://", "hf://", "https://x/y\nz"])
def test_broken_addresses_are_refused_too(typed: str) -> None:
    message = str(not_fetched(typed, PRESETS))
    assert "nothing is fetched" in message
    assert "preset" not in message
    assert message.isprintable()


@pytest.mark.parametrize(
    "typed", ["", "olmoe", "./a/b", "/a/b", "a/b/c", "a/b.json", "a/b.TOML", "../x", "~/x", "a/"]
)
def test_paths_and_bare_names_are_not_of_a_hub(typed: str) -> None:
    assert not_fetched(typed, PRESETS) is None


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("olmoe", " (did you mean olmoe-1b-7b?)"),
        ("OLMoE-1B-7", " (did you mean olmoe-1b-7b?)"),
        ("gpt-oss", " (did you mean gpt-oss-20b or gpt-oss-120b?)"),
        ("30b", " (did you mean qwen3-30b-a3b?)"),
        ("", ""),
        ("zzz", ""),
        ("x" * 5000, ""),
    ],
)
def test_slips_are_answered_with_names_that_are_like_them(typed: str, said: str) -> None:
    assert did_you_mean(typed, PRESETS) == said
