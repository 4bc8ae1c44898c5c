from __future__ import annotations

import pytest

from mcpd.supervisor.view import RULES_MAX, Access, TooManyRules, View, entries_of, rules

TREE = {
    "/": ["dev", "etc", "home", "proc", "tmp", "usr"],
    "/home": ["me", "you"],
    "/home/me": [".ssh", "notes", "project"],
    "/home/me/project": [".env", "src"],
    "/etc": ["mcpd", "passwd"],
}


def allowed(**lists: list[str]) -> dict[str, bool]:
    view = View(**{name: tuple(paths) for name, paths in lists.items()})
    found = rules(view, resolve=lambda path: path, entries=lambda path: TREE[path])
    writable = {path: access is Access.WRITE for path, access, _ in found}
    assert len(writable) == len(found), "no path has two rules"
    return writable


def test_nothing_said_is_nothing_restricted():
    assert not View()
    assert not View(read_write_paths=("/a",)), "an exception to nothing"
    assert View(read_only_paths=("/a",))
    assert allowed() == {"/": True, "/dev": True, "/proc": True}


def test_read_only_but_for():
    assert allowed(read_only_paths=["/"], read_write_paths=["/tmp", "/home/me/project"]) == {
        "/": False,
        "/dev": True,
        "/proc": True,
        "/tmp": True,
        "/home/me/project": True,
    }


def test_dev_and_proc_may_be_listed_themselves():
    assert allowed(read_only_paths=["/", "/proc"], inaccessible_paths=["/dev"]) == {
        "/etc": False,
        "/home": False,
        "/proc": False,
        "/tmp": False,
        "/usr": False,
    }


def test_what_is_inaccessible_is_left_out_and_its_directories_are_taken_apart():
    assert allowed(inaccessible_paths=["/home/me/.ssh"]) == {
        "/dev": True,
        "/etc": True,
        "/proc": True,
        "/tmp": True,
        "/usr": True,
        "/home/you": True,
        "/home/me/notes": True,
        "/home/me/project": True,
    }


def test_the_longest_path_decides():
    assert allowed(
        read_only_paths=["/", "/home/me/project/src"],
        inaccessible_paths=["/home", "/home/me/project/.env"],
        read_write_paths=["/home/me/project"],
    ) == {
        "/dev": True,
        "/etc": False,
        "/proc": True,
        "/tmp": False,
        "/usr": False,
        "/home/me/project/src": False,
    }
    assert allowed(inaccessible_paths=["/"], read_only_paths=["/usr"], read_write_paths=["/usr/local"]) == {
        "/dev": True,
        "/proc": True,
        "/usr": False,
        "/usr/local": True,
    }


def test_the_stricter_list_holds_where_two_name_the_same():
    view = View(("/a", "/b"), ("/b", "/c"), ("/a", "/c"))
    modes = view.modes(lambda path: path)
    assert (modes["/a"], modes["/b"], modes["/c"]) == (Access.NONE, Access.READ, Access.NONE)


def test_a_path_that_only_begins_alike_is_another_one():
    assert allowed(read_only_paths=["/home/m"]) == allowed(read_only_paths=["/home/m"]) | {"/home/me": True}


def test_what_is_not_there_is_not_made_accessible_either():
    assert "/home/me/later" not in allowed(inaccessible_paths=["/home/me/later"])


def test_what_is_wanted_and_not_there_is_not_passed_over():
    assert "/home/me/later" in allowed(read_only_paths=["/home/me/later"], inaccessible_paths=["/home/me/.ssh"])


def test_links_are_followed_in_the_lists_and_passed_over_in_directories(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "other").touch()
    (tmp_path / "link").symlink_to("real")
    assert sorted(entries_of(str(tmp_path))) == ["other", "real"]
    found = rules(View(inaccessible_paths=(str(tmp_path / "link"),)), entries=entries_of)
    assert (str(tmp_path / "other"), Access.WRITE, False) in found
    assert not {str(tmp_path), str(tmp_path / "real"), str(tmp_path / "link")} & {path for path, _, _ in found}


def test_what_a_list_names_is_told_from_what_was_found_in_a_directory():
    view = View(read_only_paths=("/etc/mcpd",), inaccessible_paths=("/home/me/.ssh",))
    found = rules(view, resolve=lambda path: path, entries=lambda path: TREE[path])
    assert [path for path, _, named in found if named] == ["/dev", "/etc/mcpd", "/proc"]


STATE = "/home/me/.local/state"
PRIVATE = TREE | {
    "/": ["etc", "home", "tmp"],
    "/home/me": [".local", "notes"],
    "/home/me/.local": ["bin", "state"],
    STATE: ["admin-token", "home", "work"],
}


def private(
    writable: tuple[str, ...] = (),
    needed: tuple[str, ...] = (),
    tree: dict[str, list[str]] | None = None,
    **lists: list[str],
) -> tuple[dict[str, Access], list[str]]:
    """The rules, and what is exposed, where mcpd's own is a directory in a home."""
    paths = {name: tuple(each) for name, each in lists.items()}
    view = View(**paths, private_paths=(STATE,), needed_paths=needed)
    tree = tree or PRIVATE

    def entries(path: str) -> list[str]:
        if path not in tree:
            raise PermissionError(13, "not to be listed", path)
        return tree[path]

    found = rules(view, resolve=lambda path: path, entries=entries, writable=lambda path: path in writable)
    exposed = view.privacy(view.modes(lambda path: path), lambda path: path, lambda path: path in writable)[1]
    own = [path for path, _, named in found if named and path.startswith(STATE)]
    assert set(own) <= {path for each in lists.values() for path in each}, "the rest may be gone meanwhile"
    return {path: access for path, access, _ in found if path not in ("/dev", "/proc")}, exposed


def test_of_what_mcpd_keeps_for_itself_only_names_are_seen_and_all_around_can_be_listed():
    assert private(read_only_paths=["/"]) == (
        {
            "/": Access.LIST,
            "/etc": Access.READ,
            "/home": Access.LIST,
            "/home/me": Access.LIST,
            "/home/me/.local": Access.LIST,
            "/home/me/.local/bin": Access.READ,
            STATE: Access.LIST,
            "/home/me/notes": Access.READ,
            "/home/you": Access.READ,
            "/tmp": Access.READ,
        },
        [],
    )


def test_names_are_not_seen_where_a_list_hides_something_below():
    found, _ = private(read_only_paths=["/"], inaccessible_paths=["/home/you"])
    assert "/" not in found
    assert "/home" not in found
    assert found["/home/me"] is Access.LIST


def test_what_a_server_needs_in_there_stays_as_it_is():
    inside = (f"{STATE}/home", f"{STATE}/work/a", STATE, "/home/me")
    found, _ = private(needed=inside, read_only_paths=["/"], read_write_paths=[f"{STATE}/work"])
    assert {path: access for path, access in found.items() if path.startswith(STATE)} == {
        STATE: Access.LIST,
        f"{STATE}/home": Access.READ,
        f"{STATE}/work": Access.WRITE,
    }


def test_it_is_hidden_from_who_may_write_around_it_only_where_that_takes_nothing_away():
    lists = {"read_only_paths": ["/"], "read_write_paths": ["/home/me"]}
    above = ("/home/me/.local",)
    assert private(above, **lists)[1] == [STATE]
    assert private(above, **lists)[0]["/home/me"] is Access.WRITE
    found, exposed = private((), **lists)
    assert (found[STATE], exposed) == (Access.LIST, [])
    assert private(above, inaccessible_paths=["/etc/mcpd"])[1] == [STATE]
    assert private(above, read_only_paths=["/"])[1] == [], "mcpd may write there, the server may not"


def test_who_names_it_has_it_and_who_hides_it_too():
    found, exposed = private(read_only_paths=["/", STATE])
    assert (found["/"], exposed) == (Access.READ, [STATE])
    for path in (STATE, "/home"):
        found, exposed = private(read_only_paths=["/"], inaccessible_paths=[path])
        assert not [each for each in found if each.startswith(path)]
        assert exposed == []


def test_a_directory_that_nobody_lists_is_only_on_the_way():
    tree = {path: names for path, names in PRIVATE.items() if path != "/home"}
    found, _ = private(tree=tree, read_only_paths=["/"])
    assert found["/home/me/notes"] is Access.READ
    assert "/home/you" not in found
    with pytest.raises(PermissionError):
        private(tree=tree, read_only_paths=["/"], inaccessible_paths=["/home/me/notes"])


def test_without_a_view_there_is_nothing_to_tell():
    assert View(private_paths=("/tmp",)).exposed() == []
    assert View(("/",), private_paths=("/tmp/x",)).exposed() == []
    assert View(("/",), ("/tmp",), private_paths=("/tmp/x",)).exposed() == ["/tmp/x"]


def test_the_number_of_rules_is_bounded():
    with pytest.raises(TooManyRules):
        rules(
            View(inaccessible_paths=("/x",)),
            resolve=lambda path: path,
            entries=lambda _: [str(number) for number in range(RULES_MAX + 1)],
        )
