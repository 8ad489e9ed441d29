"""Claims about the registry: which of file and admin API wins, defaults, revisions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferoxy.errors import ModelNotFound
from inferoxy.messages import ModelSpec
from model_manager.registry import Registry, digest


def spec(
    name: str, version: str = "1", *, batch_size: int = 1, default: bool = False, source: str = "file"
) -> ModelSpec:
    return ModelSpec(name=name, version=version, address="image", batch_size=batch_size, default=default, source=source)


def admin(name: str, version: str = "1", *, batch_size: int = 1, default: bool = False) -> ModelSpec:
    return spec(name, version, batch_size=batch_size, default=default, source="admin")


def sizes(registry: Registry) -> dict[str, int]:
    return {f"{m.name}@{m.version}": m.batch_size for m in registry.models}


def defaults(registry: Registry) -> list[str]:
    return [f"{m.name}@{m.version}" for m in registry.models if m.default]


FILE = Registry().with_file([spec("a"), spec("b")])


def test_an_admin_change_holds_over_the_file() -> None:
    assert sizes(FILE.with_spec(admin("a", batch_size=9))) == {"a@1": 9, "b@1": 1}


def test_an_admin_change_holds_when_the_file_is_read_again_unchanged() -> None:
    changed = FILE.with_spec(admin("a", batch_size=9)).with_file([spec("a"), spec("b")])
    assert sizes(changed) == {"a@1": 9, "b@1": 1}


def test_a_later_edit_of_that_entry_in_the_file_holds_over_the_admin_change() -> None:
    changed = FILE.with_spec(admin("a", batch_size=9)).with_file([spec("a", batch_size=3), spec("b")])
    assert sizes(changed) == {"a@1": 3, "b@1": 1}
    assert changed.overrides == ()


def test_an_edit_of_another_entry_leaves_the_admin_change() -> None:
    changed = FILE.with_spec(admin("a", batch_size=9)).with_file([spec("a"), spec("b", batch_size=2)])
    assert sizes(changed) == {"a@1": 9, "b@1": 2}


def test_a_deleted_entry_of_the_file_stays_deleted_until_the_entry_is_edited() -> None:
    deleted = FILE.without("a")
    assert sizes(deleted) == {"b@1": 1}
    assert sizes(deleted.with_file([spec("a"), spec("b")])) == {"b@1": 1}
    assert sizes(deleted.with_file([spec("a", batch_size=4), spec("b")])) == {"a@1": 4, "b@1": 1}


def test_a_model_taken_out_of_the_file_goes_with_its_admin_change() -> None:
    assert sizes(FILE.with_spec(admin("a", batch_size=9)).with_file([spec("b")])) == {"b@1": 1}


def test_a_model_of_the_admin_api_gives_way_when_the_file_gets_one_of_its_name() -> None:
    own = FILE.with_spec(admin("c", batch_size=9))
    assert sizes(own) == {"a@1": 1, "b@1": 1, "c@1": 9}
    assert sizes(own.with_file([spec("a"), spec("b"), spec("c")])) == {"a@1": 1, "b@1": 1, "c@1": 1}


def test_a_change_back_to_what_the_file_says_is_no_change() -> None:
    back = FILE.with_spec(admin("a", batch_size=9)).with_spec(admin("a"))
    assert back == FILE
    assert back.find("a").source == "file"


def test_replacing_all_keeps_the_file_and_forgets_other_admin_models() -> None:
    before = FILE.with_spec(admin("c")).with_spec(admin("a", batch_size=9))
    after = before.with_all([admin("d", batch_size=2), admin("b", batch_size=7)])
    assert sizes(after) == {"a@1": 1, "b@1": 1, "d@1": 2}
    assert before.with_all([]) == FILE


def test_deleting_a_name_deletes_every_version_and_a_slug_with_a_version_one() -> None:
    versions = FILE.with_spec(admin("a", "2")).with_spec(admin("a", "3"))
    assert sizes(versions.without("a@2")) == {"a@1": 1, "b@1": 1, "a@3": 1}
    assert sizes(versions.without("a")) == {"b@1": 1}


def test_what_is_not_registered_is_not_found() -> None:
    for slug in ("c", "a@2", "", "@1"):
        with pytest.raises(ModelNotFound, match="is not registered"):
            FILE.find(slug)
        with pytest.raises(ModelNotFound):
            FILE.without(slug)


def test_the_first_version_is_the_default_unless_another_says_so() -> None:
    assert defaults(Registry().with_file([spec("a"), spec("a", "2")])) == ["a@1"]
    assert defaults(Registry().with_file([spec("a"), spec("a", "2", default=True)])) == ["a@2"]


def test_another_version_of_the_admin_api_takes_no_traffic_unless_it_says_so() -> None:
    assert defaults(FILE.with_spec(admin("a", "2"))) == ["a@1", "b@1"]
    assert FILE.with_spec(admin("a", "2")).find("a").version == "1"


def test_the_default_stated_last_by_the_admin_api_holds() -> None:
    stated = Registry().with_file([spec("a", default=True)]).with_spec(admin("a", "2", default=True))
    assert defaults(stated) == ["a@2"]
    assert defaults(stated.with_spec(admin("a", "3", default=True))) == ["a@3"]
    assert defaults(stated.without("a@2")) == ["a@1"]


def test_revision_is_equal_when_the_content_is_and_order_does_not_count() -> None:
    assert digest([spec("a"), spec("b")]) == digest([spec("b"), spec("a")])
    assert digest([spec("a")]) != digest([spec("a", batch_size=2)])
    assert FILE.revision == Registry().with_file([spec("a"), spec("b")]).revision
    assert FILE.revision != FILE.with_spec(admin("a", batch_size=2)).revision
    assert Registry().revision != ""


_SPECS = st.lists(
    st.builds(
        admin,
        st.sampled_from("abc"),
        st.sampled_from("123"),
        batch_size=st.integers(1, 3),
        default=st.booleans(),
    ),
    max_size=6,
)


@given(_SPECS, _SPECS)
def test_every_name_has_exactly_one_default_and_every_key_stands_once(
    file: list[ModelSpec], changes: list[ModelSpec]
) -> None:
    registry = Registry().with_file({s.key: s for s in file}.values())
    for change in changes:
        registry = registry.with_spec(change)
    keys = [m.key for m in registry.models]
    assert len(keys) == len(set(keys))
    for name in {m.name for m in registry.models}:
        assert sum(m.default for m in registry.models if m.name == name) == 1
        assert registry.find(name).default
