from __future__ import annotations

import os

import pytest

from mcpd.supervisor.survey import Misled, Place, Survey, follow, is_open, is_writable
from mcpd.supervisor.view import Access, View


@pytest.fixture
def tree(tmp_path):
    """a/b/c with a file, and links of all kinds."""
    top = tmp_path.resolve()
    (top / "a" / "b" / "c").mkdir(parents=True)
    (top / "a" / "b" / "file").write_text("x")
    (top / "relative").symlink_to("a/b")
    (top / "absolute").symlink_to(top / "a")
    (top / "a" / "up").symlink_to("../relative/c")
    (top / "dangling").symlink_to("none/at/all")
    (top / "loop").symlink_to("loop")
    (top / "chain").symlink_to("a/up")
    return top


@pytest.mark.parametrize(
    ("path", "links"),
    [
        ("a/b/file", []),
        ("a/./b//c", []),
        ("a/b/../b/c", []),
        ("relative/c", [""]),
        ("absolute/b/file", [""]),
        ("a/up", ["a", ""]),
        ("chain", ["", "a", ""]),
        ("relative/../b", [""]),
        ("dangling", [""]),
        ("a/none/x", []),
    ],
)
def test_links_are_followed_as_the_kernel_does(tree, path, links):
    found = follow(f"{tree}/{path}")
    assert found.path == os.path.realpath(f"{tree}/{path}")
    assert found.links == tuple(str(tree / each) if each else str(tree) for each in links)


def test_a_loop_ends(tree):
    assert follow(f"{tree}/loop").path == f"{tree}/loop"


def test_what_can_be_written(tmp_path, monkeypatch):
    own = str(tmp_path)
    assert is_writable(own)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert is_writable(own), "its owner can change its mode"
    assert not is_writable(str(tmp_path / "none"))
    monkeypatch.undo()
    assert is_open("/tmp")
    assert not is_open("/usr"), "root is not the one who starts as another user"
    assert not is_open(str(tmp_path / "none"))
    assert is_open(own) is (os.geteuid() != 0)
    (tmp_path / "link").symlink_to("/usr")
    lists = (("/",), (own, f"{own}/link"))
    with pytest.raises(Misled):
        Survey(View(*lists))
    if os.geteuid() == 0:
        assert Survey(View(*lists, other_user=True)).modes["/usr"] is Access.WRITE


def survey(view: View, links: dict[str, str], writable: tuple[str, ...]) -> Survey:
    """In a file system with these links only, in directories that mcpd's user may write to or not."""

    def look(path: str) -> Place:
        found: list[str] = []
        while True:
            for link, target in links.items():
                if path == link or path.startswith(f"{link}/"):
                    found.append(os.path.dirname(link))
                    path = target + path[len(link) :]
                    break
            else:
                return Place(path, tuple(found))

    return Survey(view, follow=look, writable=lambda path: path in writable)


@pytest.mark.parametrize(
    ("lists", "links", "writable"),
    [
        pytest.param((("/",), ("/w", "/w/link")), {"/w/link": "/secret"}, ("/w",), id="below what it may write"),
        pytest.param((("/", "/w/link"), ("/w",)), {"/w/link": "/secret"}, ("/w",), id="of another list"),
        pytest.param((("/",), ("/w",), ("/w/link",)), {"/w/link": "/x"}, ("/w",), id="to hide something else"),
        pytest.param((("/ro",), ("/w/cache",)), {"/w/cache": "/ro/sub"}, ("/w",), id="what no list covers is written"),
        pytest.param((("/",), ("/alias", "/own/c")), {"/alias": "/own", "/own/c": "/s"}, ("/own",), id="another name"),
        pytest.param((("/",), ("/own", "/alias/c")), {"/alias": "/own", "/own/c": "/s"}, ("/own",), id="and the other"),
        pytest.param(
            (("/",), ("/own", "/srv/link")), {"/srv/link": "/own/c", "/own/c": "/secret"}, ("/own",), id="on the way"
        ),
        pytest.param((("/",), ("/dev/shm/app",)), {"/dev/shm/app": "/s"}, ("/dev/shm",), id="in what is exempt"),
        pytest.param(
            (("/", "/own/x"), ("/own", "/own/c")),
            {"/own/x": "/own", "/own/c": "/s"},
            ("/own",),
            id="with one to hide it",
        ),
    ],
)
def test_a_link_that_the_child_can_have_made_is_none_to_follow(lists, links, writable):
    with pytest.raises(Misled) as caught:
        survey(View(*lists), links, writable)
    path, target = caught.value.args
    assert path in {each for paths in lists for each in paths}
    assert target != path


@pytest.mark.parametrize(
    ("lists", "links", "writable"),
    [
        pytest.param(
            (("/",), ("/var",), ("/var/run/x",)), {"/var/run": "/run"}, (), id="root's own, in root's directory"
        ),
        pytest.param((("/",), ("/", "/bin")), {"/bin": "/usr/bin"}, (), id="of the system"),
        pytest.param((("/",), ("/home/me/w",)), {"/home/me/w": "/data"}, ("/home/me",), id="where it may only read"),
        pytest.param((("/",), ("/link",)), {"/link": "/w"}, (), id="an operator's"),
    ],
)
def test_others_are_followed(lists, links, writable):
    found = survey(View(*lists), links, writable)
    assert found.modes["/"] in (Access.READ, Access.WRITE)
    assert not {*links} & {*found.modes}


def test_a_path_is_looked_at_once():
    looked = []

    def look(path: str) -> Place:
        looked.append(path)
        return Place(path)

    Survey(View(("/",), ("/a",), ("/b",), ("/c",), ("/d", "/a")), follow=look, writable=lambda _: True)
    assert sorted(set(looked)) == ["/", "/a", "/b", "/c", "/d"]
    assert len(looked) == len(set(looked))
