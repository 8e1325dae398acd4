"""Seeds: runs of one recipe are one row, with the mean, Student's interval and the single runs."""

import json
import re
import shutil
from statistics import mean

import pytest

from filterbands.evaluation import EvaluateConfig, evaluate
from filterbands.models import load_model
from filterbands.report.accuracy import comparisons
from filterbands.report.gather import gather
from filterbands.report.glance import glances
from filterbands.report.report_page import _answer, render_report
from filterbands.scores import student_interval

from .conftest import write_run


@pytest.fixture(scope="module")
def study(tmp_path_factory, images):
    folder = tmp_path_factory.mktemp("study")
    scores = {}
    for seed in (0, 1, 2):
        for recipe in ("share_low", "standard"):
            run = write_run(folder / f"{recipe}-fastnet-{seed}", recipe=recipe, seed=seed + 3 * len(recipe))
            facts = json.loads((run / "run.json").read_text())
            facts["config"]["seed"] = seed
            (run / "run.json").write_text(json.dumps(facts))
            config = EvaluateConfig(name=run.name, kinds=("fog",), severities=(1, 3))
            scores[recipe, seed] = evaluate(load_model(run), images, config=config, db=folder / "r.db")
    return folder, scores


def test_runs_that_differ_in_the_seed_are_one_row_with_students_interval(study):
    folder, scores = study
    report = gather([folder], title="")
    assert [recipe.name for recipe in report.recipes] == ["share_low-fastnet", "standard-fastnet"]
    assert [[entry.seed for entry in recipe.entries] for recipe in report.recipes] == [[0, 1, 2]] * 2
    assert [entry.position for entry in report.entries] == [0, 0, 0, 1, 1, 1]
    (group,) = comparisons(report)
    reference, other = group.rows
    assert reference.recipe.name == "standard-fastnet"
    clean = [scores["standard", seed].clean_estimate().accuracy for seed in (0, 1, 2)]
    assert reference.clean == (pytest.approx(mean(clean)), *map(pytest.approx, student_interval(clean)))
    # Differences are paired by seed.
    corrupted = [
        scores["share_low", seed].average_at_hand().accuracy
        - scores["standard", seed].average_at_hand().accuracy
        for seed in (0, 1, 2)
    ]
    gain = other.gains(reference)[1]
    assert gain == (pytest.approx(mean(corrupted)), *map(pytest.approx, student_interval(corrupted)))
    fog = [scores["standard", seed].kinds["fog"][0] for seed in (0, 1, 2)]
    assert reference.kinds["fog"][0] == pytest.approx(mean(fog))


@pytest.mark.slow
def test_a_row_opens_to_its_single_runs_without_a_script(study):
    folder, scores = study
    report = gather([folder], title="")
    (made,) = glances(report, comparisons(report))
    assert [len(row.single) for row in made.rows] == [3, 3]
    assert made.rows[0].cells[0].under == "3 seeds"
    for seed, cells in enumerate(made.rows[1].single):
        assert cells[0].text == f"standard-fastnet-{seed}"
        accuracy = scores["standard", seed].clean_estimate().accuracy
        assert cells[1].text.startswith(f"{100 * accuracy:.1f}")
    page = render_report(report)
    # Without images there is no section of pictures.
    assert 'id="images"' not in page
    assert page.count("<tr class=single>") == 6
    assert "Dots are single seeds." in page
    assert page.count("(3 seeds)") >= 2
    # Each row has a dot for every seed under each accuracy, on the line of its column.
    dots = made.rows[1].cells[1].dots
    assert dots == tuple(scores["standard", seed].clean_estimate().accuracy for seed in (0, 1, 2))
    every = [one.clean_estimate().accuracy for one in scores.values()]
    assert {row.cells[1].ends for row in made.rows} == {(min(every), max(every))}
    assert [len(cells[1].dots) for cells in made.rows[1].single] == [0, 0, 0]
    assert page.count('<svg class="dots') == 4
    assert page.count("<circle", page.index('<svg class="dots'), page.index("</table>")) == 12


@pytest.mark.parametrize("order", [("share_low", "other"), ("other", "share_low")])
def test_the_most_accurate_network_is_the_subject_of_the_answer_whichever_is_the_reference(
    study, order, tmp_path
):
    folder, _ = study
    for name, seed in zip(("share_low", "other"), (0, 1), strict=True):
        run = shutil.copytree(folder / f"share_low-fastnet-{seed}", tmp_path / name)
        facts = json.loads((run / "run.json").read_text())
        facts["config"]["recipe"] = name
        (run / "run.json").write_text(json.dumps(facts))
    report = gather([*(tmp_path / name for name in order), folder / "r.db"], title="")
    (group, *_) = [one for one in comparisons(report) if one.rows[0].recipe.name == order[0]]
    answer = _answer([group._replace(rows=group.rows[:2])])
    assert group.rows[0].recipe.name == order[0]
    assert answer["subject"].value >= answer["other"].value
    clean, corrupted = answer["gains"]
    assert corrupted.value == pytest.approx(answer["subject"].value - answer["other"].value)
    assert clean.value == pytest.approx(answer["subject"].clean.value - answer["other"].clean.value)


def test_copies_of_one_run_are_networks_of_their_own_and_all_have_its_scores(study, tmp_path):
    folder, _ = study
    copy = shutil.copytree(folder / "standard-fastnet-0", tmp_path / "copy")
    report = gather([folder / "standard-fastnet-0", copy, folder / "r.db"], title="")
    assert [len(recipe.entries) for recipe in report.recipes[:2]] == [1, 1]
    assert [len(entry.scores) for entry in report.entries[:2]] == [1, 1]


def test_recipes_without_common_seeds_are_compared_without_an_interval(study):
    folder, _ = study
    runs = [folder / f"standard-fastnet-{seed}" for seed in (0, 1)]
    report = gather([*runs, folder / "share_low-fastnet-2", folder / "r.db"], title="")
    group = comparisons(report)[0]
    reference = group.rows[0]
    other = next(row for row in group.rows if row.recipe.name == "share_low-fastnet-2")
    assert len(reference.members) == 2
    clean, corrupted = other.gains(reference)
    assert clean.value == pytest.approx(other.clean.value - reference.clean.value)
    assert corrupted is not None
    assert clean.low is corrupted.low is None


def test_a_study_without_its_database_shows_what_its_lines_say(tmp_path):
    lines = [
        {
            "name": f"standard-fastnet-{seed}",
            "recipe": "standard",
            "data": "planted",
            "images": 2000,
            "clean": 0.9 + seed / 100,
            "average_15": None,
            "average_19": None,
            "robust": 0.7,
            "kinds": {"fog": [0.8, None, 0.6, None, None]},
            "seconds": 12.0,
            "config": {"recipe": "standard", "arch": "fastnet", "seed": seed},
            "evaluation": {"split": "test", "seed": 0, "precision": "float32"},
        }
        for seed in (0, 1)
    ]
    (tmp_path / "runs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = gather([tmp_path], title="")
    (recipe,) = report.recipes
    assert recipe.name == "standard-fastnet"
    (group,) = comparisons(report)
    assert group.rows[0].clean.value == pytest.approx(0.905)
    assert dict(group.conditions)["split"] == "test"
    page = render_report(report)
    assert "average over the 1 kinds at hand" not in page
    assert "the one kind at hand" in page


def _line(folder, seed, **more):
    record = {
        "name": f"tuned-{seed}",
        "data": "cifar10",
        "images": 60,
        "clean": 0.5 + seed / 10,
        "kinds": {},
        **more,
        "config": {"recipe": "tuned", "seed": seed, **more.get("config", {})},
    }
    folder.mkdir(exist_ok=True)
    with (folder / "runs.jsonl").open("a") as lines:
        lines.write(json.dumps(record) + "\n")


@pytest.mark.parametrize(
    ("starts", "hashes", "recipes"),
    [
        # Each seed starts from the run of its own seed, the study named in two ways.
        (("study/base-0", "../up/study/base-1"), ("a", "b"), 1),
        (("/a/other/base-0", "/a/other/base-1"), ("a", "b"), 1),
        (("/a/base-0", "/b/base-1"), (None, None), 2),
        # All seeds start from one file.
        (("/a/net-0", "/a/net-0"), (None, None), 1),
        (("/a/net.pt", "/a/net.pt"), ("a", None), 1),
        (("/a/net.pt", "/b/net.pt"), ("a", "a"), 1),
        (("/a/net.pt", "/b/net.pt"), (None, None), 2),
        (("/a/net.pt", "/a/net.pt"), ("a", "b"), 2),
    ],
)
def test_seeds_of_one_recipe_start_from_the_same_weights_or_from_one_row(tmp_path, starts, hashes, recipes):
    for seed, (start, known) in enumerate(zip(starts, hashes, strict=True)):
        _line(tmp_path / "study", seed, config={"init": start}, **({"init": known} if known else {}))
    assert len(gather([tmp_path / "study"], title="").recipes) == recipes


def test_intervals_of_accuracies_are_cut_to_0_and_100_percent_and_those_of_differences_are_not(tmp_path):
    for name, shares in (("tuned", (0.5, 0.9)), ("other", (0.2, 0.8))):
        for seed, clean in enumerate(shares):
            _line(tmp_path, seed, name=f"{name}-{seed}", config={"recipe": name}, clean=clean)
    page = render_report(gather([tmp_path], title="")).replace("\N{NO-BREAK SPACE}", " ")
    assert "70.0 %  (0.0 to 100.0)" in page
    assert '<span class="sub">0.0 to 100.0</span>' in page
    assert (
        "<strong>20.0&nbsp;points more</strong> (95&nbsp;% confidence interval \N{MINUS SIGN}107.1 to" in page
    )
    assert "it is shown cut to 0 and 100" in page


def test_lines_of_other_images_of_one_name_are_no_seeds_of_one_recipe(tmp_path):
    for seed in (0, 1):
        _line(tmp_path / "same", seed, fingerprint="a" * 64)
        _line(tmp_path / "other", seed, fingerprint=f"{seed}" * 64)
    assert [len(group.members) for group in comparisons(gather([tmp_path / "same"], title=""))] == [2]
    assert [len(group.members) for group in comparisons(gather([tmp_path / "other"], title=""))] == [1, 1]


def test_the_page_says_in_what_the_seeds_of_a_recipe_differ_else(tmp_path):
    for seed, precision in enumerate(("bfloat16", "float32", "float32")):
        _line(tmp_path, seed, training_precision=precision, device=f"<b>{seed // 2}", git="same")
    page = render_report(gather([tmp_path], title=""))
    text = re.sub(r"<[^>]+>", "", page).replace("&nbsp;", " ")
    said = "The seeds of \N{BLACK CIRCLE} tuned differ also in training precision (bfloat16, float32)"
    assert f"{said} and device (&lt;b&gt;0, &lt;b&gt;1)." in text
    assert "(3 seeds)" in text
    (tmp_path / "runs.jsonl").unlink()
    for seed in (0, 1):
        _line(tmp_path, seed, training_precision="float32", device="cpu")
    assert "differ also" not in render_report(gather([tmp_path], title=""))


def test_lines_under_two_versions_of_a_kind_are_not_compared(tmp_path):
    for name, newer in (("same", {"shot_noise": 2}), ("other", {})):
        for seed, versions in ((0, {"shot_noise": 2}), (1, newer)):
            _line(tmp_path / name, seed, kinds={"shot_noise": [0.5] * 5}, versions=versions)
    assert [len(group.members) for group in comparisons(gather([tmp_path / "same"], title=""))] == [2]
    assert [len(group.members) for group in comparisons(gather([tmp_path / "other"], title=""))] == [1, 1]
