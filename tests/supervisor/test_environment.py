from __future__ import annotations

from mcpd.supervisor.environment import DEFAULT_PATH, clean_environment


def test_only_what_is_named_is_inherited():
    inherited = {
        "PATH": "/bin",
        "HOME": "/home/x",
        "LC_ALL": "C.UTF-8",
        "GITHUB_TOKEN": "secret",
        "HTTPS_PROXY": "http://user:password@proxy",
        "NOTIFY_SOCKET": "/run/systemd/notify",
        "LISTEN_FDS": "3",
        "LD_PRELOAD": "x.so",
        "MCPD_OWNER": "x",
        "SHELL": "() { :; }",
    }
    assert clean_environment({}, inherited=inherited) == {
        "PATH": "/bin",
        "HOME": "/home/x",
        "LC_ALL": "C.UTF-8",
    }


def test_what_is_configured_wins():
    found = clean_environment({"HOME": "/srv", "GITHUB_TOKEN": "x"}, inherited={"HOME": "/home/alice"})
    assert found == {"HOME": "/srv", "GITHUB_TOKEN": "x", "PATH": DEFAULT_PATH}
