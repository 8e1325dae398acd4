"""Results of other conditions, from the command to the figure: never averaged or paired as if alike."""

import json
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from filterbands import load_data, load_model
from filterbands.cli import main
from filterbands.cli import probe as verb
from filterbands.disk import write_weights
from filterbands.evaluation import Store, load_scores
from filterbands.evaluation.rows import Outcome
from filterbands.probes import corruption_spectra
from filterbands.report.accuracy import comparisons
from filterbands.report.gather import gather


def _run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main(list(map(str, words)))
    caught = capsys.readouterr()
    return code, caught.out, caught.err


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two networks that name classes by chance."""
    folder = tmp_path_factory.mktemp("nets")
    files = [folder / "one.safetensors", folder / "two.safetensors"]
    for seed, file in enumerate(files):
        torch.manual_seed(seed)
        write_weights(file, load_model(arch="fastnet").state_dict(), {"arch": "fastnet"})
    return files


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A spec of twenty images; `planted` would draw all of its own for each command."""
    file = tmp_path_factory.mktemp("images") / "few.npz"
    data = load_data("planted", limit=20)
    np.savez(file, images=data.images.numpy(), labels=data.labels.numpy())
    return f"npz:{file}"


@pytest.fixture(scope="module")
def copies(images: str, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Corrupted copies of the images by two seeds, and one that does not say which seed it has."""
    folder = tmp_path_factory.mktemp("copies <b>")
    for seed in (7, 8):
        made = ["corrupt", images, "--kinds", "gaussian_noise", "--severities", "1,3"]
        assert main([*made, "--seed", str(seed), "--out", str(folder / str(seed))]) == 0
    shutil.copytree(folder / "8", folder / "bare")
    record = json.loads((folder / "8" / "corrupt.json").read_text())
    (folder / "bare" / "corrupt.json").write_text(json.dumps({"severities": record["severities"]}))
    return [folder / name for name in ("7", "8", "bare")]


@pytest.mark.slow
def test_the_seed_of_a_copy_is_the_one_of_its_record_or_none(
    nets: list[Path], images: str, copies: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for copy, seed in zip(copies, (7, 8, None), strict=True):
        db = tmp_path / f"{copy.name}.db"
        words = ("evaluate", nets[0], "--data", images, "--db", db, "--corrupted", copy)
        # The second time all is read from the database.
        for _ in range(2):
            assert json.loads(_run(capsys, *words, "--json")[1])["seed"] == seed
        listed = json.loads(_run(capsys, "results", db, "--json")[1])["results"]
        assert [(found["seed"], found["folder"]) for found in listed] == [(seed, str(copy))]
        assert f"folder {copy}" in _run(capsys, "results", db)[1]
        page = tmp_path / "report.html"
        assert _run(capsys, "report", db, "--out", page)[0] == 0
        text = page.read_text()
        assert "copies &lt;b&gt;" in text
        assert not re.search(r"seed <bdi>\d", text)


@pytest.mark.parametrize(("flag", "value"), [("--seed", "3"), ("--parameters", "cifar")])
def test_copies_have_a_seed_and_constants_of_their_own(
    flag: str,
    value: str,
    nets: list[Path],
    images: str,
    copies: list[Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = _run(
        capsys, "evaluate", nets[0], "--data", images, "--corrupted", copies[0], flag, value
    )
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--corrupted needs no seed and no parameters, since copies on disk were made with their own" in err
    assert f"leave out {flag[2:]} {value}" in err


def test_a_baseline_on_the_same_copy_is_found_whatever_wrote_the_database(
    nets: list[Path], images: str, copies: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (("evaluate", net, "--data", images, "--db", tmp_path / "r.db") for net in nets)
    assert _run(capsys, *one, "--name", "base", "--corrupted", copies[0])[0] == 0
    with Store(tmp_path / "r.db") as store:
        # Rows of before have no seed of the copy.
        store.add_folder(str(copies[0]), [cell for cell, _ in store.cells() if cell.source])
    against = ("--baseline", "base", "--max-drop", "1", "--json")
    code, out, _ = _run(capsys, *two, "--corrupted", copies[0], *against)
    assert (code, json.loads(out)["baseline"]["caution"]) == (0, [])
    code, _, err = _run(capsys, *two, "--corrupted", copies[1], *against)
    assert (code, "saw other corrupted images: folder" in err) == (2, True)
    code, _, err = _run(capsys, *two, "--kinds", "gaussian_noise", "--severities", "1,3", *against)
    assert (code, "those of base were read from files, those of two" in err) == (2, True)


def test_a_gate_says_what_it_cannot_compare_and_does_not_hold_on_clean_images_alone(
    nets: list[Path], images: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (
        ("evaluate", net, "--data", images, "--db", tmp_path / "r.db", "--severities", "3") for net in nets
    )
    assert _run(capsys, *one, "--name", "base", "--kinds", "contrast")[0] == 0
    against = ("--baseline", "base", "--max-drop", "1")
    code, out, err = _run(capsys, *two, "--kinds", "fog", *against)
    assert (code, out) == (2, "")
    assert "base was not evaluated as two.safetensors was: base has none of the corrupted cells of" in err
    code, out, _ = _run(capsys, *two, "--kinds", "fog,contrast", *against)
    assert (code, "holds" in out) == (0, True)
    assert "not fully comparable: base lacks 1 of 2 corrupted cells (fog)" in out
    code, out, _ = _run(capsys, *two, "--kinds", "contrast", "--precision", "bfloat16", *against)
    assert (code, "not fully comparable: the precision is bfloat16, that of base is float32" in out) == (
        0,
        True,
    )
    code, out, err = _run(capsys, *two[:-2], "--kinds", "none", "--present-only", *against)
    assert (code, out) == (2, "")
    assert (
        "two.safetensors chose among the classes of the images alone (--present-only), base among all" in err
    )
    code, out, _ = _run(capsys, *two[:-2], "--kinds", "none", *against)
    assert (code, "not fully comparable" in out) == (0, False)


def test_two_copies_are_two_comparisons_and_no_seeds_of_one_network(
    nets: list[Path], images: str, copies: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db = tmp_path / "r.db"
    # One network saw both copies, the other one the second alone.
    for net, copy in ((nets[0], copies[0]), (nets[0], copies[1]), (nets[1], copies[1])):
        assert _run(capsys, "evaluate", net, "--data", images, "--db", db, "--corrupted", copy)[0] == 0
    groups = comparisons(gather([db], title=""))
    found = {dict(group.conditions)["folder"]: group for group in groups}
    assert set(found) == {str(copies[0]), str(copies[1])}
    assert [len(row.members) for group in groups for row in group.rows] == [1, 1, 1]
    measured = {(one.name, one.folder): one for one in load_scores(db)}
    for (name, folder), scores in measured.items():
        [row] = [row for row in found[folder].rows if row.recipe.name == name]
        assert row.value == scores.average_at_hand().accuracy  # type: ignore[union-attr]
    page = tmp_path / "report.html"
    assert _run(capsys, "report", db, "--out", page)[0] == 0
    assert "2 seeds" not in page.read_text()


def test_results_that_are_named_twice_count_once(
    nets: list[Path],
    images: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    words = ("--data", images, "--kinds", "fog", "--severities", "3", "--db")
    for net in nets:
        assert _run(capsys, "evaluate", net, *words, folder / "results.db")[0] == 0
    probe = ("--only", "passes", "--limit", "3", "--data", images, "--db", folder / "results.db")
    assert _run(capsys, "probe", nets[0], *probe)[0] == 0
    once = gather([folder], title="")
    shutil.copy(folder / "results.db", folder / "backup.db")
    (tmp_path / "link.db").symlink_to(folder / "results.db")
    twice = gather([folder, tmp_path / "link.db", folder / "results.db", folder], title="")
    for report in (once, twice):
        [group] = comparisons(report)
        reference, other = group.rows
        assert [len(row.members) for row in group.rows] == [1, 1]
        # The difference is paired by image, and has its interval.
        assert other.gains(reference)[1].low is not None  # type: ignore[union-attr]
        assert [len(entry.probed) for entry in report.entries] == [1, 0]
    assert not [record for record in caplog.records if record.name.startswith("filterbands.report")]
    with Store(folder / "backup.db") as store:
        [(cell, outcome)] = store.cells(kind="fog", model=load_scores(folder / "backup.db")[0].model)
        store.delete("one.safetensors")
        store.add_model(cell.model, "one.safetensors")
        for place in (replace(cell, kind="clean", severity=0, parameters="", version=0), cell):
            store.put(place, Outcome(bits=~outcome.bits, seconds=0.0))
    (folder / "results.db").rename(folder / "a.db")
    gather([folder], title="")
    assert "a.db and" in caplog.text
    assert "have different answers of one.safetensors to the same images; those of the first" in caplog.text


@pytest.mark.slow
def test_the_page_of_probe_compares_equal_conditions_alone(
    nets: list[Path],
    images: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = partial(corruption_spectra, kinds=("fog", "contrast"), severities=(3,))
    monkeypatch.setattr(verb, "corruption_spectra", few)
    db, page = tmp_path / "r.db", tmp_path / "p.html"

    def evaluated(net: Path, severities: str, seed: int) -> None:
        words = ("--kinds", "fog,contrast", "--severities", severities, "--seed", seed, "--db", db)
        assert _run(capsys, "evaluate", net, "--data", images, *words)[0] == 0

    def shown(seed: int) -> str:
        words = ("--data", images, "--limit", "2", "--only", "corruptions", "--db", db, "--html", page)
        words += ("--seed", seed)
        assert _run(capsys, "probe", *nets, *words)[0] == 0
        return re.sub(r"<[^>]+>", "", page.read_text())

    evaluated(nets[0], "1,3", 0)
    evaluated(nets[1], "3", 0)
    text = shown(0)
    assert "two.safetensors are not compared, since they were measured otherwise: severities 3" in text
    assert "instead of 1, 3" in text
    assert "about frequency and what" not in text
    # Of several sets of the first network that of the probe's seed counts, though it is smaller.
    evaluated(nets[0], "3", 4)
    evaluated(nets[1], "3", 4)
    text = shown(4)
    assert "not compared" not in text
    assert "severities 3 &middot; seed 4" in text
    assert "about frequency and what" in text
