"""The configuration: values and text are checked once, and an invalid field is refused in one line."""

import inspect
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nas.config import (
    DEFAULT_BUDGET_S,
    FIELD_GROUPS,
    FREE_FIELDS,
    GROUPS,
    MODEL_FIELDS,
    TRAIN_FIELDS,
    CompressKeywords,
    SearchConfig,
    SearchKeywords,
    TrainKeywords,
    make_config,
    quantity,
    read_config,
)
from nas.errors import ConfigError

UNITS = {"s": 1.0, "m": 60.0}


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("budget", "30m", 1800.0), ("budget", "1.5 h", 5400.0), ("budget", "2d", 172800.0), ("budget", "45", 45.0),
        ("budget", 45, 45.0), ("max_latency", "5ms", 5.0), ("max_latency", "250us", 0.25),
        ("max_latency", "1S", 1000.0),
        ("max_latency", 0.00005, 0.00005), ("max_latency", "5e-2ms", 0.05), ("max_latency", ".5", 0.5),
        ("max_size", "500kB", 500_000.0), ("max_size", "1MiB", 1_048_576.0), ("max_size", "1e16", 1e16),
        ("max_size", 12345, 12345.0), ("max_memory", "8MiB", 8_388_608.0),
    ],
)  # fmt: skip
def test_quantities_carry_units(field: str, text: str | float, value: float) -> None:
    assert make_config(**{field: text}).get(field) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("text", ["", "five", "-3", "0", "3 parsecs", "3m3", "nan", "inf", "1e999", "m", "--", "0.0s"])
def test_text_that_is_not_a_quantity_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=r"must be a positive number with one of s, m, but got .*; try 30m"):
        quantity(text, UNITS, example="30m")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"budget": "soon"}, "budget must be a positive number with one of s, m, h, d, but got 'soon'; try 30m"),
        ({"max_latency": "5kB"}, "max_latency must be a positive number with one of us, ms, s"),
        ({"max_size": -1}, "max_size must be a positive number"),
        ({"objectives": ("accuracy",)}, "objectives must be accuracy, latency and any of size, energy"),
        ({"objectives": ("accuracy", "latency", "beauty")}, "but got accuracy,latency,beauty"),
        ({"objectives": ("accuracy", "latency", "latency")}, "each once"),
        ({"rungs": (0.5, 0.25, 1.0)}, "rungs must ascend"),
        ({"rungs": (0.5,)}, "rungs must ascend"),
        ({"rungs": (0.0, 1.0)}, "rungs must ascend"),
        ({"rungs": (0.5, 0.5, 1.0)}, "rungs must ascend"),
        ({"rungs": (math.nan, 1.0)}, "rungs"),
        ({"rungs": ()}, "rungs must ascend"),
        (
            {"compressors": ("quantize", "flip_average", "flip_average")},
            "compressors must name each one once, but got 'quantize,flip_average,flip_average'",
        ),
        ({"importance": ()}, "importance must name one criterion or more, each once, but got ''"),
        ({"importance": ("l1", "l1")}, "each once, but got 'l1,l1'"),
        ({"sparsity_step": 0.3}, "sparsity_step must divide 1, such as 0.125, 0.1 or 0.25, but got 0.3"),
        ({"trials": 0}, "trials must be at least 1, but got 0; only nas compress accepts 0"),
        ({"epochs": 0}, "epochs must be greater than 0, but got 0"),
        ({"epochs": math.inf}, "epochs must be a finite number, but got inf"),
        ({"min_accuracy": 1.5}, "min_accuracy must be less than or equal to 1, but got 1.5"),
        ({"min_accuracy": math.nan}, "min_accuracy must be a finite number"),
        ({"search_share": 0}, "search_share must be greater than 0"),
        ({"device": "tpu"}, "device must be 'auto', 'cpu' or 'cuda', but got 'tpu'"),
        ({"name": "../elsewhere"}, "name must match pattern"),
        ({"name": ""}, "name must match pattern"),
        ({"verify": -1}, "verify must be a number of members, or auto, but got -1"),
        ({"verify": "many"}, "verify must be a number of members, or auto, but got 'many'"),
        ({"seed": -1}, "seed must be greater than or equal to 0"),
        ({"colour": 5}, "`nas search --help` lists the fields"),
        ({"training": {"target": "cpu"}}, "target must be in [search], but is in [training]"),
        ({"target": "cpu", "search": {"target": "cpu"}}, "target must be given once"),
        ({"data_options": "size"}, "data_options must be a valid dictionary, but got 'size'"),
        (
            {"trails": 5},
            "trails must be a field of the configuration, but there is none of this name; did you mean trials?",
        ),
    ],
    ids=lambda x: str(x)[:40],
)
def test_an_invalid_field_is_refused_in_one_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(**fields)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Value error" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "expected"), [(0.5, 0.5), ((0.5,), 0.5), ([0.485, 0.456, 0.406], (0.485, 0.456, 0.406))]
)
def test_mean_and_std_are_one_number_or_several(value: Any, expected: Any) -> None:
    search = make_config(model="resnet8", mean=value, std=value).search
    assert search.mean == search.std == expected
    with pytest.raises(ConfigError, match=r"^std must be greater than 0, but got 0$"):
        make_config(model="resnet8", std=(1.0, 0.0, 1.0))
    with pytest.raises(ConfigError, match=r"^mean must be a number, or one for each channel, but got \(\)$"):
        make_config(model="resnet8", mean=())
    with pytest.raises(ConfigError, match=r"^mean must be a number, or one for each channel, but got 'abc'$"):
        make_config(model="resnet8", mean="abc")  # type: ignore[arg-type]


def test_fields_that_are_none_take_their_default() -> None:
    assert make_config(target=None, trials=None, rungs=None) == SearchConfig()


def test_a_search_without_trials_or_budget_gets_the_default_budget() -> None:
    assert make_config().search.budget == DEFAULT_BUDGET_S
    assert make_config(trials=3).search.budget is None
    assert make_config(budget="10s").search.trials is None


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        make_config().run.seed = 1  # type: ignore[misc]


def test_the_folder_has_the_given_name_or_one_of_data_space_and_target() -> None:
    assert make_config(runs=Path("there"), space="plain", target="cpu").folder == Path("there/synthetic-plain-cpu")
    assert make_config(runs=Path("there"), name="mine").folder == Path("there/mine")


texts = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12)
configs = st.fixed_dictionaries(
    {},
    optional={
        "target": texts,
        "data": texts.filter(bool).map(Path),
        "data_options": st.dictionaries(texts, texts, max_size=3),
        "objectives": st.permutations(["accuracy", "latency", "size"]).map(tuple),
        "max_latency": st.floats(1e-9, 1e9),
        "max_size": st.floats(1e-3, 1e20),
        "min_accuracy": st.floats(0, 1),
        "trials": st.integers(1, 10**9),
        "budget": st.floats(1e-6, 1e20),
        "epochs": st.floats(1e-9, 1e9),
        "rungs": st.floats(1e-9, 0.99).map(lambda x: (x, 1.0)),
        "storage": texts,
        "seed": st.integers(0, 2**63 - 1),
    },
)


@given(configs)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_toml_round_trip(tmp_path_factory: pytest.TempPathFactory, fields: dict[str, Any]) -> None:
    config = make_config(**fields)
    file = tmp_path_factory.getbasetemp() / "config.toml"
    file.write_bytes(config.to_toml().encode())
    assert read_config(file) == config
    assert read_config(file).differences(config) == []


@pytest.mark.parametrize("field", sorted(set(FIELD_GROUPS) - FREE_FIELDS))
def test_every_field_that_decides_the_result_is_a_difference(field: str) -> None:
    other = {
        "target": "cpu", "space": "plain", "dataset": "folder", "data_options": {"n": "300"}, "max_latency": 5.0,
        "objectives": ("accuracy", "latency", "size"), "max_size": 1.0, "max_memory": 1.0, "max_dla_fallback": 0,
        "min_accuracy": 0.5, "sampler": "random",
        "epochs": 1.0, "rungs": (1.0,), "seed": 1, "storage": "sqlite://", "prune_steps": 4, "qat": 0.3,
        "qat_scales": "learned", "warm_start": ("runs/a",), "proxies": ("nwot",),
        "keep_duplicates": True, "protocol": "kfold:5", "teacher_views": 8, "branches": True,
        "auxiliary_head": True, "crops": True,
        "teacher": ("votes",), "teacher_classes": ("a", "b"), "teacher_output": "y",
        "distill": "dkd", "temperature": 3.0, "alpha": 0.5, "distill_during": "search",
        "importance": ("l1",), "sparsity_step": 0.125, "execution": "plain",
            "compressors": ("quantize",), "model": "resnet8", "mean": 0.5, "std": 2.0, "input_size": 64,
            "keep": ("stem.*",),
    }[field]  # fmt: skip
    given = {"model": "resnet10"} if field in (*MODEL_FIELDS, "model") else {}
    before, asked = make_config(**given), make_config(**(given | {field: other}))
    (difference,) = before.differences(asked)
    there, wanted = (config.flat()[field] for config in (before, asked))
    assert difference == f"{field}: {there!r} there, {wanted!r} asked"


def test_duration_hardware_and_paths_may_change() -> None:
    changed = make_config(
        trials=9, budget="1h", search_share=0.5, final_epochs=1, verify=1, threads=3, device="cpu", runs="x", name="y",
        data="/moved",
    )  # fmt: skip
    assert make_config().differences(changed) == []


def test_toml_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("trials = 3", encoding="utf-8-sig")
    assert read_config(tmp_path / "a.toml").search.trials == 3
    (tmp_path / "b.toml").write_text("trials = 3", encoding="utf-16")
    with pytest.raises(ConfigError, match=r"b\.toml must be UTF-8 text, but is not: "):
        read_config(tmp_path / "b.toml")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml does not exist; give the path"):
        read_config(tmp_path / "absent.toml")
    (tmp_path / "broken.toml").write_text("trials = = 3")
    with pytest.raises(ConfigError, match=r"broken\.toml is not valid TOML: "):
        read_config(tmp_path / "broken.toml")
    (tmp_path / "wrong.toml").write_text("trials = 'many'")
    with pytest.raises(ConfigError, match="trials must be a valid integer"):
        read_config(tmp_path / "wrong.toml")
    (tmp_path / "latin.toml").write_bytes(b"name = '\xe9'")
    with pytest.raises(ConfigError, match=r"latin\.toml must be UTF-8 text, but is not: "):
        read_config(tmp_path / "latin.toml")


def test_a_file_with_tables_and_a_flat_one_are_the_same_configuration(tmp_path: Path) -> None:
    flat, tables = tmp_path / "flat.toml", tmp_path / "tables.toml"
    flat.write_text('target = "cpu"\nepochs = 2\ndata_options = {size = "48"}\n')
    tables.write_text('[search]\ntarget = "cpu"\n[search.data_options]\nsize = "48"\n[training]\nepochs = 2\n')
    assert read_config(flat) == read_config(tables)
    assert read_config(tables).fields_set == {"target", "epochs", "data_options"}


def test_field_names_are_unique_and_differ_from_those_of_groups() -> None:
    assert len(FIELD_GROUPS) == sum(len(group.model_fields) for group in GROUPS.values())
    assert not set(FIELD_GROUPS) & set(GROUPS)


def test_every_field_is_explained() -> None:
    for group in GROUPS.values():
        for name, field in group.model_fields.items():
            assert field.description, name


def test_the_keywords_are_the_fields() -> None:
    assert set(SearchKeywords.__annotations__) == set(FIELD_GROUPS)
    assert set(TrainKeywords.__annotations__) == set(TRAIN_FIELDS) - {"model"}
    assert set(CompressKeywords.__annotations__) == set(FIELD_GROUPS) - {"model", "space"}


def test_the_signature_lists_every_field_with_type_and_default() -> None:
    parameters = inspect.signature(make_config).parameters
    assert list(parameters) == list(FIELD_GROUPS)
    for name, parameter in parameters.items():
        default = GROUPS[FIELD_GROUPS[name]].model_fields[name].get_default(call_default_factory=True)
        assert parameter.default == (str(default) if isinstance(default, Path) else default)
        assert parameter.annotation is not inspect.Parameter.empty


PASSWORDS = [
    ("postgresql+psycopg://ada:secret@db:5432/nas", "postgresql+psycopg://ada:***@db:5432/nas"),
    ("postgresql://ada:se/c?r:et@db/nas?sslmode=require", "postgresql://ada:***@db/nas?sslmode=require"),
    ("postgresql://ada:sec@ret@db/nas?options=a@b", "postgresql://ada:***@db/nas?options=a@b"),
    ("postgresql://db/nas?user=ada&password=secret&x=1", "postgresql://db/nas?user=ada&password=***&x=1"),
    ("postgresql://db/nas?sslpassword=secret", "postgresql://db/nas?sslpassword=***"),
    ("mysql://:secret@db", "mysql://:***@db"),
]


@pytest.mark.parametrize(("url", "shown"), PASSWORDS)
def test_a_password_is_neither_written_nor_shown(tmp_path: Path, url: str, shown: str) -> None:
    config = make_config(storage=url, seed=3)
    assert config.run.storage == url
    assert config.flat()["storage"] == shown
    written = config.to_toml() + repr(config) + str(config.differences(make_config(storage="sqlite://")))
    assert not any(part in written for part in ("secret", "sec", "ret@", "r:et"))
    file = tmp_path / "config.toml"
    file.write_text(config.to_toml())
    assert read_config(file).differences(config) == []


def test_a_password_in_another_place_is_no_difference() -> None:
    urls = [f"postgresql://ada{password}@db/nas" for password in ("", ":secret", ":other", ":***")]
    configs = [make_config(storage=url) for url in urls]
    assert all(a.differences(b) == [] for a in configs for b in configs)
    assert configs[0].differences(make_config(storage="postgresql://bob@db/nas"))


def test_a_url_without_a_password_is_shown_as_it_is() -> None:
    for url in ("sqlite:///a:b@c.db", "sqlite:////tmp/x.db", "postgresql://ada@db/nas?x=a:b@c", "postgresql://db:1/n"):
        assert make_config(storage=url).flat()["storage"] == url


@pytest.mark.parametrize(
    "text", ["kfold", "kfold:1", "kfold:x", "kfold:1001", "folds:", "loso:3", "random", "", "kfold:²"]
)
def test_other_forms_of_a_protocol_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="protocol must be official, holdout, kfold:K, loso or folds:FILE"):
        make_config(protocol=text)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"model": "resnet8"}, "is for searches, but a model is given, whose weights have seen faces of other folds"),
        ({"teacher": ("votes",)}, "must be without teachers, but one is given, which has seen faces of other folds"),
        ({"verify_seeds": 2}, "trains each member once in each fold, but verify_seeds is 2; leave it out"),
    ],
)
def test_folds_are_refused_with_networks_that_have_seen_other_folds(fields: dict[str, Any], reason: str) -> None:
    for protocol in ("kfold:5", "loso", "folds:a.csv"):
        with pytest.raises(ConfigError, match=f"protocol {protocol} {reason}"):
            make_config(protocol=protocol, **fields)
    assert make_config(protocol=" holdout ", **fields).search.protocol == "holdout"
