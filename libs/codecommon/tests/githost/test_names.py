from __future__ import annotations

import pytest

from codecommon.api.results import Terminal
from codecommon.githost.github.names import check_owner, check_repository_name
from codecommon.githost.refs import is_branch_name


@pytest.mark.parametrize("name", ["web", "a", "x" * 100, "a.b_c-D9", "-", ".github", "git", "..."])
def test_a_name_the_host_keeps_as_it_is_passes(name: str) -> None:
    check_repository_name(name)


@pytest.mark.parametrize(
    "name", ["", "x" * 101, ".", "..", "a b", "a/b", "a\n", "über", "x.git", "x.GIT", "x.wiki", "../user", "a%2fb"]
)
def test_a_name_the_host_would_alter_or_refuse_is_refused_first(name: str) -> None:
    with pytest.raises(Terminal) as refused:
        check_repository_name(name)
    assert refused.value.reason == "InvalidName"


@pytest.mark.parametrize("owner", ["acme", "a", "octo-cat", "jane_corp", "dependabot[bot]", "x" * 100])
def test_a_login_passes(owner: str) -> None:
    check_owner(owner)


@pytest.mark.parametrize("owner", ["", "a/b", "..", "../repos", "a b", "a?b", "a#b", "-a", "x" * 101, "a\n"])
def test_an_owner_cannot_change_the_address_of_the_request(owner: str) -> None:
    with pytest.raises(Terminal) as refused:
        check_owner(owner)
    assert refused.value.reason == "InvalidName"


@pytest.mark.parametrize("branch", ["main", "feature/x", "a.b", "v1.0", "ünï", "a@b", "a%b"])
def test_names_that_git_takes_are_branches(branch: str) -> None:
    assert is_branch_name(branch)


@pytest.mark.parametrize(
    "branch",
    [
        "",
        ".",
        "..",
        "a..b",
        "/a",
        "a/",
        "a//b",
        ".a",
        "a/.b",
        "a.lock",
        "a b",
        "a~1",
        "a^",
        "a:b",
        "a?",
        "@{u}",
        "a\\b",
    ],
)
def test_names_that_git_refuses_are_no_branches(branch: str) -> None:
    assert not is_branch_name(branch)
