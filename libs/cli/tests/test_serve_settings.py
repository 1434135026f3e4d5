from pathlib import Path

import pytest

from code_provider.data_folder import DataFolder, DataFolderInUse, DataFolderUnusable
from code_provider.serve_settings import ServeSettings


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"CODE_DATA_DIR": "/data", "HOME": "/home/me"}, "/data"),
        ({"XDG_DATA_HOME": "/xdg", "HOME": "/home/me"}, "/xdg/code-provider"),
        ({"XDG_DATA_HOME": "relative", "HOME": "/home/me"}, "/home/me/.local/share/code-provider"),
        ({"HOME": "/home/me"}, "/home/me/.local/share/code-provider"),
        ({}, "/.local/share/code-provider"),
    ],
)
def test_data_lies_where_the_platform_keeps_it(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], expected: str
) -> None:
    monkeypatch.setattr("sys.platform", "linux")

    assert ServeSettings.load(environ).data_folder == Path(expected)


def test_an_empty_nats_url_means_the_embedded_server() -> None:
    assert ServeSettings.load({"NATS_URL": ""}).external_nats is None
    assert ServeSettings.load({"NATS_URL": "nats://a"}).external_nats == "nats://a"


def test_a_folder_is_held_by_one_and_free_again_afterwards(tmp_path: Path) -> None:
    with (
        DataFolder(tmp_path / "a"),
        pytest.raises(DataFolderInUse, match="in use by another"),
        DataFolder(tmp_path / "a"),
    ):
        pass
    with DataFolder(tmp_path / "a"):
        pass


def test_a_folder_that_cannot_be_made_is_said_with_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(DataFolderUnusable, match="set CODE_DATA_DIR"), DataFolder(tmp_path / "file" / "data"):
        pass
