from __future__ import annotations

import pytest

from mcpd.supervisor.view import RULES_MAX, Access, Misled, TooManyRules, View, entries_of, rules

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


def test_the_number_of_rules_is_bounded():
    with pytest.raises(TooManyRules):
        rules(
            View(inaccessible_paths=("/x",)),
            resolve=lambda path: path,
            entries=lambda _: [str(number) for number in range(RULES_MAX + 1)],
        )


def test_what_lies_where_the_child_may_write_must_lie_there():
    links = {"/w/sub": "/w/sub", "/w/link": "/secret", "/link": "/secret"}
    view = View(("/",), ("/w", "/w/sub", "/link"))
    assert view.modes(lambda path: links.get(path, path))["/secret"] is Access.WRITE, "nobody but others made this one"
    for view in (View(("/",), ("/w", "/w/link")), View(("/", "/w/link"), ("/w",)), View(("/",), ("/w",), ("/w/link",))):
        with pytest.raises(Misled) as caught:
            view.modes(lambda path: links.get(path, path))
        assert caught.value.args == ("/w/link", "/secret")
