"""What mcpd keeps for itself, in a file system that is made up, and in one that is there."""

from __future__ import annotations

import os

import pytest

from mcpd.supervisor import privacy as module
from mcpd.supervisor.privacy import gaps, privacy, rules_of
from mcpd.supervisor.survey import Place, Survey
from mcpd.supervisor.view import Access, TooManyRules, View, rules

STATE = "/home/me/.local/state"
TREE = {
    "/": ["etc", "home", "tmp"],
    "/etc": ["mcpd", "passwd"],
    "/home": ["me", "you"],
    "/home/me": [".local", "notes"],
    "/home/me/.local": ["bin", "state"],
    STATE: ["admin-token", "home", "data"],
}


def private(
    writable: tuple[str, ...] = (),
    needed: tuple[str, ...] = (),
    tree: dict[str, list[str]] | None = None,
    links: dict[str, str] | None = None,
    state: str = STATE,
    **lists: list[str],
) -> tuple[dict[str, Access], list[str]]:
    """The rules, and what is exposed, where mcpd's own is a directory in a home. `links`: paths, where they lead."""
    paths = {name: tuple(each) for name, each in lists.items()}
    view = View(**paths, private_paths=(state,), needed_paths=needed)
    tree = tree or TREE

    def entries(path: str) -> list[str]:
        if path not in tree:
            raise PermissionError(13, "not to be listed", path)
        return tree[path]

    def look(path: str) -> Place:
        for link, target in (links or {}).items():
            if path == link or path.startswith(f"{link}/"):
                return Place(target + path[len(link) :], (os.path.dirname(link),))
        return Place(path)

    survey = Survey(view, follow=look, writable=lambda path: path in writable)
    more, found = privacy(survey)
    made = rules(survey.modes, entries=entries, more=more)
    own = [path for path, _, named in made if named and path.startswith(STATE)]
    assert set(own) <= {survey.where(path) for each in lists.values() for path in each}, (
        "the rest may be gone meanwhile"
    )
    return {path: access for path, access, _ in made if path not in ("/dev", "/proc")}, found


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
    inside = (f"{STATE}/home", f"{STATE}/data/a", STATE, "/home/me")
    found, _ = private(needed=inside, read_only_paths=["/"], read_write_paths=[f"{STATE}/data"])
    assert {path: access for path, access in found.items() if path.startswith(STATE)} == {
        STATE: Access.LIST,
        f"{STATE}/home": Access.READ,
        f"{STATE}/data": Access.WRITE,
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
    tree = {path: names for path, names in TREE.items() if path != "/home"}
    found, _ = private(tree=tree, read_only_paths=["/"])
    assert found["/home/me/notes"] is Access.READ
    assert "/home/you" not in found
    with pytest.raises(PermissionError):
        private(tree=tree, read_only_paths=["/"], inaccessible_paths=["/home/me/notes"])


def test_a_need_that_is_a_link_into_it_is_none():
    # The child has made its home such a link, and is started again.
    links = {"/home/me/notes/home": f"{STATE}/admin-token"}
    found, _ = private(
        needed=("/home/me/notes/home", f"{STATE}/gone"),
        links=links,
        read_only_paths=["/"],
        read_write_paths=["/home/me/notes"],
    )
    assert f"{STATE}/admin-token" not in found
    links = {f"{STATE}/home": f"{STATE}/admin-token"}
    found, _ = private(needed=(f"{STATE}/home",), links=links, read_only_paths=["/"])
    assert {path for path in found if path.startswith(STATE)} == {STATE}


def test_nor_does_a_list_that_leads_into_it_by_a_link_name_it():
    for target in (STATE, f"{STATE}/admin-token"):
        found, exposed = private(links={"/tmp/link": target}, read_only_paths=["/"], read_write_paths=["/tmp/link"])
        assert {access for path, access in found.items() if path.startswith(STATE)} == {Access.LIST}
        assert exposed == []


def test_nor_one_that_is_a_link_in_there():
    # Another server may write to the home that both have, and has made one of its directories such a link.
    links = {f"{STATE}/home/.npm": f"{STATE}/admin-token"}
    found, _ = private(links=links, read_only_paths=["/"], read_write_paths=[f"{STATE}/home/.npm"])
    assert {access for path, access in found.items() if path.startswith(STATE)} == {Access.LIST}
    odd = f"{STATE}//home/./.npm"
    found, _ = private(read_only_paths=["/"], read_write_paths=[odd], links={odd: f"{STATE}/home/.npm"})
    assert found[f"{STATE}/home/.npm"] is Access.WRITE, "however it is written"


def test_it_is_known_by_both_of_its_names():
    links = {"/var/state": STATE}
    found, exposed = private(links=links, state="/var/state", needed=("/var/state/home",), read_only_paths=["/"])
    assert (found[STATE], found[f"{STATE}/home"], exposed) == (Access.LIST, Access.READ, [])
    for name in ("/var/state", STATE):
        found, exposed = private(links=links, state="/var/state", read_only_paths=["/", name])
        assert exposed == [STATE]


def test_who_may_put_another_in_its_place_is_told():
    lists = {"read_only_paths": ["/"], "read_write_paths": ["/tmp"]}
    links = {"/tmp/link": "/home/me/.local"}
    found, exposed = private(("/tmp",), links=links, state="/tmp/link/state", **lists)
    assert (found[STATE], exposed) == (Access.LIST, [STATE]), "hidden, but for how long"
    assert private((), links=links, state="/tmp/link/state", **lists)[1] == []
    assert private(("/tmp",), links=links, state="/tmp/link/state", read_only_paths=["/"])[1] == []


def test_without_a_view_there_is_nothing_to_tell(tmp_path):
    inner = str(tmp_path.resolve() / "x")
    assert gaps(View(private_paths=(inner,)))[0] == []
    assert gaps(View(("/",), private_paths=(inner,)))[0] == []
    assert gaps(View(("/",), (str(tmp_path),), private_paths=(inner,)))[0] == [inner]
    assert gaps(View(("/",), (str(tmp_path / "none" / "..."),), private_paths=(inner,)))[0] == []


def test_more_entries_than_there_can_be_rules_are_no_reason_not_to_start(tmp_path, monkeypatch):
    state = tmp_path.resolve() / "state"
    state.mkdir()
    view = View(("/",), private_paths=(str(state),))
    assert (str(state), Access.LIST, False) in rules_of(view)
    assert gaps(view)[0] == []

    def few(*arguments, more=(), **options):
        if more:
            raise TooManyRules("/")
        return rules(*arguments, **options)

    monkeypatch.setattr(module, "rules", few)
    assert ("/", Access.READ, True) in rules_of(view)
    assert gaps(view)[0] == [str(state)], "it is told"
    monkeypatch.setattr(module, "rules", lambda *_, **__: few(more=(1,)))
    with pytest.raises(TooManyRules):
        rules_of(View(("/",), (), (str(state),)))


def test_a_real_one_and_a_link_to_it(tmp_path):
    state = tmp_path.resolve() / "state"
    (state / "home").mkdir(parents=True)
    (tmp_path / "link").symlink_to(state)
    made = rules_of(View(("/",), private_paths=(str(tmp_path / "link"),), needed_paths=(str(state / "home"),)))
    found = {path: access for path, access, _ in made}
    assert (found[str(state)], found[str(state / "home")]) == (Access.LIST, Access.READ)
    assert found[str(tmp_path.resolve())] is Access.LIST
    assert os.path.dirname(str(tmp_path.resolve())) in found
