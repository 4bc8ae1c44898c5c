from __future__ import annotations

import pytest

from mcpd.supervisor.privacy import rules_of
from mcpd.supervisor.view import RULES_MAX, Access, TooManyRules, View, entries_of, rules

TREE = {
    "/": ["dev", "etc", "home", "proc", "tmp", "usr"],
    "/home": ["me", "you"],
    "/home/me": [".ssh", "notes", "project"],
    "/home/me/project": [".env", "src"],
    "/etc": ["mcpd", "passwd"],
}


def modes(view: View) -> dict[str, Access]:
    """Where no path is a link."""
    lists = (*view.inaccessible_paths, *view.read_only_paths, *view.read_write_paths)
    return view.modes({path: path for path in lists})


def allowed(**lists: list[str]) -> dict[str, bool]:
    view = View(**{name: tuple(paths) for name, paths in lists.items()})
    found = rules(modes(view), entries=lambda path: TREE[path])
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
    found = modes(view)
    assert (found["/a"], found["/b"], found["/c"]) == (Access.NONE, Access.READ, Access.NONE)


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
    found = rules_of(View(("/",), (), (str(tmp_path / "link"),)))
    assert (str(tmp_path / "other"), Access.READ, False) in found
    assert not {str(tmp_path), str(tmp_path / "real"), str(tmp_path / "link")} & {path for path, _, _ in found}


def test_what_a_list_names_is_told_from_what_was_found_in_a_directory():
    view = View(read_only_paths=("/etc/mcpd",), inaccessible_paths=("/home/me/.ssh",))
    found = rules(modes(view), entries=lambda path: TREE[path])
    assert [path for path, _, named in found if named] == ["/dev", "/etc/mcpd", "/proc"]


def test_the_number_of_rules_is_bounded():
    with pytest.raises(TooManyRules):
        rules(
            modes(View(inaccessible_paths=("/x",))),
            entries=lambda _: [str(number) for number in range(RULES_MAX + 1)],
        )
