from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.jobs.references import check_remote, remote_services
from service.settings import RemoteRefcat, Settings


def test_everything_is_in_one_directory_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    settings = Settings(data_dir=tmp_path)
    assert settings.jobs_url == f"sqlite:///{tmp_path}/visitcal.sqlite"
    assert settings.queue_url == f"sqlite:///{tmp_path}/queue.sqlite"
    for directory in (settings.blob_dir, settings.refcat_dir, settings.scratch_dir, settings.numba_cache_dir):
        assert directory.parent == tmp_path


def test_argument_beats_environment_beats_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "visitcal.toml"
    file.write_text("slots = 2\nport = 1111\nhost = 'file'\n")
    monkeypatch.setenv("VISITCAL_CONFIG_FILE", str(file))
    monkeypatch.setenv("VISITCAL_PORT", "2222")
    monkeypatch.setenv("VISITCAL_HOST", "environment")
    settings = Settings(host="argument")
    assert (settings.slots, settings.port, settings.host) == (2, 2222, "argument")


def test_unknown_key_in_the_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "visitcal.toml"
    file.write_text("slotz = 2\n")
    monkeypatch.setenv("VISITCAL_CONFIG_FILE", str(file))
    with pytest.raises(ValidationError, match="slotz"):
        Settings()


def test_missing_file_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISITCAL_CONFIG_FILE", str(tmp_path / "absent.toml"))
    with pytest.raises(FileNotFoundError, match=r"absent\.toml"):
        Settings()


def test_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().slots = 3  # type: ignore[misc]


@pytest.mark.parametrize("values", [{"lease": 3.0, "heartbeat": 2.0}, {"time_limit": 9e3}, {"slots": 0}])
def test_settings_that_cannot_work_together(values: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Settings(**values)


def test_every_field_is_documented() -> None:
    assert all(field.description for field in Settings.model_fields.values())


FAR = {"kind": "tap", "url": "https://vo.example.org/tap", "table": "sky.stars", "columns": {"ra": "ra", "dec": "de"}}


def test_remote_catalogues_of_the_file_reach_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "visitcal.toml"
    file.write_text(
        "[remote_refcats.far]\nkind = 'tap'\nurl = 'https://vo.example.org/tap'\ntable = 'sky.stars'\nepoch = 2016.0\n"
        "columns = { ra = 'ra', dec = 'de' }\n"
    )
    monkeypatch.setenv("VISITCAL_CONFIG_FILE", str(file))
    settings = Settings(data_dir=tmp_path)
    assert settings.remote_refcats == {"far": RemoteRefcat(**FAR, epoch=2016.0)}
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings
    monkeypatch.delenv("VISITCAL_CONFIG_FILE")
    assert Settings() == settings
    assert all(field.description for field in RemoteRefcat.model_fields.values())


def test_the_declaration_of_the_documentation_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyvo")
    text = (Path(__file__).parents[2] / "docs" / "references.md").read_text()
    file = tmp_path / "visitcal.toml"
    file.write_text(text.split("```toml\n")[1].split("```")[0])
    monkeypatch.setenv("VISITCAL_CONFIG_FILE", str(file))
    settings = Settings(data_dir=tmp_path)
    check_remote(settings)
    service = remote_services(settings)["gaia-dr3"]
    assert (service.bands, service.has_proper_motion) == (("phot_g_mean",), True)


@pytest.mark.parametrize(
    "remote",
    [
        {"none": FAR},
        {"../far": FAR},
        {"far": {"kind": "tap", "columns": {}}},
        {"far": FAR | {"kind": "sia"}},
        {"far": FAR | {"urls": []}},
    ],
)
def test_remote_catalogues_that_cannot_be(remote: dict[str, dict[str, object]]) -> None:
    with pytest.raises(ValidationError):
        Settings(remote_refcats=remote)


def test_secrets_are_not_shown_but_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(database_url="postgresql+psycopg://u:hush@h/d", slots=4)
    assert "hush" not in repr(settings)
    assert settings.queue_url == "postgresql+psycopg://u:hush@h/d"
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings
