"""Bundles: which files make one, its digest, and how it is written down."""

from __future__ import annotations

import hashlib
import json

import pytest

from codecommon.api import bundle as module
from codecommon.api.bundle import Bundle, BundleFile, InvalidBundle, clean_path, is_bundle_name, scope_of


def build(*files: BundleFile) -> Bundle:
    return Bundle.build(files)


@pytest.mark.parametrize(
    ("given", "clean"),
    [
        ("a.txt", "a.txt"),
        ("./a//b/", "a/b"),
        ("a/../b", "b"),
        (r"src\main.py", "src/main.py"),
        ("..a/b", "..a/b"),
        (" a b \t", "a b"),
        (".gitignore", ".gitignore"),
        (".github/workflows/ci.yaml", ".github/workflows/ci.yaml"),
    ],
)
def test_a_path_is_cleaned(given: str, clean: str) -> None:
    assert clean_path(given) == clean


@pytest.mark.parametrize(
    "given",
    [
        "",
        ".",
        "/a",
        r"\a",
        "..",
        "../a",
        "a/../../b",
        "a\0b",
        "a\x01b",
        "a\nb",
        "a\x7f",
        " ",
        ".git/config",
        "sub/.GIT/hooks/x",
        "a\ud800",
        "x" * 1025,
    ],
)
def test_a_path_that_is_no_file_of_the_repository_is_refused(given: str) -> None:
    with pytest.raises(InvalidBundle):
        clean_path(given)


@pytest.mark.parametrize(
    ("files", "word"),
    [
        ([], "no files"),
        ([BundleFile("a"), BundleFile("./a")], "twice"),
        ([BundleFile("a"), BundleFile("a", delete=True)], "twice"),
        ([BundleFile("a"), BundleFile("a/b/c")], "cannot be below"),
        ([BundleFile("a", b"\xff")], "UTF-8"),
        ([BundleFile("a", b"x" * (module.MOST_FILE_BYTES + 1))], "more than"),
        ([BundleFile(f"{n}", b"ab" * (module.MOST_FILE_BYTES // 2)) for n in range(9)], "together"),
        ([BundleFile(str(n)) for n in range(501)], "500 files"),
        ([BundleFile(f"{n}" + '"' * 1000) for n in range(200)], "paths"),
        ([BundleFile(f"{n}" + "<" * 900) for n in range(60)], "paths"),
    ],
)
def test_files_that_make_no_bundle_are_refused_with_the_cause(files: list[BundleFile], word: str) -> None:
    with pytest.raises(InvalidBundle, match=word):
        Bundle.build(files)


def test_a_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(InvalidBundle, match="Unicode"):
        BundleFile.of_text("a", "\ud800")


def test_a_file_may_take_the_place_of_a_folder_and_a_folder_that_of_a_file() -> None:
    assert build(BundleFile("a", delete=True), BundleFile.of_text("a/b", "1")).size == 1


def test_the_digest_is_that_of_the_go_provider() -> None:
    written = build(BundleFile.of_text("b", "2"), BundleFile.of_text("a", "é"))
    assert written.digest == "sha256:" + hashlib.sha256(b"a\0\xc3\xa9\0b\x002\0").hexdigest()
    assert written.name == f"bundle-{written.digest[7:31]}"
    mixed = build(BundleFile("b", b"ignored", delete=True), BundleFile.of_text("a", "é"))
    spelled = b"a\0\x01" + (2).to_bytes(8, "big") + b"\xc3\xa9\0" + b"b\0\x00" + bytes(8) + b"\0"
    assert mixed.digest == "sha256:" + hashlib.sha256(spelled).hexdigest()


def test_a_bundle_is_read_back_as_it_was_written() -> None:
    made = build(
        BundleFile.of_text("a/é.txt", '"\\\n\x00\u2028 €𝄞'), BundleFile("gone", delete=True), BundleFile("empty")
    )
    body = b"".join(made.encode(scope_of("c1"), made.name))
    fields = json.loads(body)
    assert (fields["name"], fields["digest"], fields["size"]) == (made.name, made.digest, made.size)
    assert fields["scope"] == "scope-" + hashlib.sha256(b"c1").hexdigest()[:32]
    assert sorted(fields["files"][0]) == ["content", "digest", "path", "size"]
    assert Bundle.decode(body) == made


def test_a_bundle_of_the_go_provider_is_read() -> None:
    """With other white space and order; ``encoding/json`` leaves out what is empty."""
    digest = build(BundleFile.of_text("a", "<&>"), BundleFile("b", delete=True)).digest
    files = [{"path": "a", "content": "<&>", "size": 3, "digest": "x"}, {"path": "b", "size": 0, "delete": True}]
    text = json.dumps({"files": files, "scope": "s", "digest": digest, "name": "n", "size": 3}, indent=2)
    text = text.replace("<&>", "\\u003c\\u0026\\u003e")
    assert Bundle.decode(text.encode()).files == (BundleFile.of_text("a", "<&>"), BundleFile("b", delete=True))


def test_the_longest_bundle_of_the_go_provider_is_read() -> None:
    """It writes six bytes for ``<``."""
    text = "<" * module.MOST_FILE_BYTES
    made = build(*(BundleFile.of_text(f"{number}", text) for number in range(8)))
    escaped = "\\u003c" * module.MOST_FILE_BYTES
    files = ",".join(f'{{"path":"{number}","content":"{escaped}"}}' for number in range(8))
    assert Bundle.decode(f'{{"digest":"{made.digest}","files":[{files}]}}'.encode()) == made


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"files":[',
        b'{"files":[1]}',
        b'{"files":[{}],"digest":"x"}',
        b'{"files":[{"path":"a"}],"digest":"sha256:0"}',
        b'{"files":' + b"[" * 100_000,
        b'{"digest":"x","files":[\n1\n]}',
        b'{"digest":"x","files":[\n{"path":"a"}',
        b'{"files":[\n{"path":"a"}\n]}',
        b'{"digest":"x","files":[' + b" " * 33 * 1024 * 1024 + b"]}",
        b"\xff",
        b'{"a":1 "b":2}',
    ],
)
def test_what_is_no_bundle_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidBundle):
        Bundle.decode(body)


@pytest.mark.parametrize(
    "name", ["", "bundle-", "../x", "bundle-" + "0" * 25, "bundle-" + "G" * 24, "bundle-" + "0" * 24 + "\n"]
)
def test_a_name_that_no_bundle_has(name: str) -> None:
    assert not is_bundle_name(name)


def test_a_name_that_a_bundle_has() -> None:
    assert is_bundle_name(build(BundleFile("a")).name)
