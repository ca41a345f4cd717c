"""Which database a name means."""

from pathlib import Path

import pytest

from batchrunner.cli.place import check_job, check_name, database_of, existing_database, near
from batchrunner.errors import ConfigError, JobFileError


@pytest.mark.parametrize(
    ("job", "db", "database"),
    [
        ("a/reviews.jsonl", None, "a/reviews.db"),
        ("reviews.jsonl.gz", None, "reviews.db"),
        ("reviews", None, "reviews.db"),
        ("v1.2.csv", None, "v1.2.db"),
        ("reviews.db", None, "reviews.db"),
        ("-", None, "stdin.db"),
        ("reviews.jsonl", "x/y.db", "x/y.db"),
        ("-", "y.db", "y.db"),
    ],
)
def test_a_job_file_stands_for_the_database_beside_it(job: str, db: str | None, database: str) -> None:
    assert database_of(job, db) == Path(database)


def test_without_a_name_the_only_database_here_is_meant(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no database in"):
        existing_database(None, None, folder=tmp_path)
    (tmp_path / "a.db").touch()
    assert existing_database(None, None, folder=tmp_path) == tmp_path / "a.db"
    (tmp_path / "b.db").touch()
    with pytest.raises(ConfigError, match=r"a\.db, b\.db"):
        existing_database(None, None, folder=tmp_path)


def test_a_database_that_is_not_there_is_told_with_the_way_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"batchrunner run .*x\.jsonl makes one"):
        existing_database(str(tmp_path / "x.jsonl"), None, folder=tmp_path)
    with pytest.raises(ConfigError, match=r"no such database$"):
        existing_database(str(tmp_path / "x.db"), None, folder=tmp_path)


def test_two_files_of_one_stem_do_not_share_a_database_by_accident(tmp_path: Path) -> None:
    mine, other = str(tmp_path / "x.csv"), str(tmp_path / "x.jsonl")
    check_name(mine, tmp_path / "x.db", (mine,), named=False)
    check_name(other, tmp_path / "x.db", (mine,), named=True)
    with pytest.raises(ConfigError, match=r"belongs to x\.csv.*--db"):
        check_name(other, tmp_path / "x.db", (mine,), named=False)


def test_a_job_file_must_be_a_file(tmp_path: Path) -> None:
    check_job("-")
    with pytest.raises(JobFileError, match="no such file"):
        check_job(str(tmp_path / "x.jsonl"))
    with pytest.raises(JobFileError, match="a folder"):
        check_job(str(tmp_path))


def test_a_path_in_this_folder_is_written_as_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert near(str(tmp_path / "a" / "x.csv")) == "a/x.csv"
    assert near("/elsewhere/x.csv") == "/elsewhere/x.csv"
