"""Pictures of the images: those that were measured, chosen by key, with the answers that the results hold."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from filterbands.corruptions import corrupt
from filterbands.datasets import load_data
from filterbands.evaluation import EvaluateConfig, evaluate
from filterbands.models import load_model
from filterbands.report import gallery as drawn
from filterbands.report import write_report
from filterbands.report.accuracy import comparisons
from filterbands.report.gallery import make_gallery
from filterbands.report.gather import gather


def pixels(address):
    image = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.fixture(scope="module")
def groups(results):
    return comparisons(gather([*results.runs, results.database], title=""))


def shots(made):
    for _, kind, items in made.strips:
        yield from ((kind, item) for item in items)
    for pair in made.disputed:
        yield from ((None, item) for item in pair if item is not None)


def test_the_pictures_are_the_images_that_were_measured_and_the_answers_those_of_the_database(
    groups, images, results
):
    made = make_gallery(groups, images)
    scores = {score.name.replace("/script>", ""): score for score in results.scores}
    assert made.remarks == []
    assert [kind for _, kind, _ in made.strips] == ["clean", "gaussian_noise", "fog", "contrast"]
    seen = 0
    for kind, shot in shots(made):
        said = re.search(r"(?:, (\w+(?: \w+)*))?, severity (\d)", shot.alt)
        kind = said[1].replace(" ", "_") if said and said[1] else kind
        place = (kind, int(said[2])) if said else ("clean", 0)
        every = images.images
        if said:
            every = corrupt(every, kind, severity=place[1], seed=0, index=images.index)
        found = (every == pixels(shot.address)).flatten(1).all(dim=1).nonzero()[:, 0].tolist()
        for answer in shot.answers:
            predictions = scores[answer.name].cells[place].predictions
            named = {images.classes[int(predictions[at])] for at in found}
            assert answer.answer in named
            assert answer.correct == (images.classes[int(images.labels[found[0]])] == answer.answer)
            seen += 1
    assert seen >= 3 * 7


def test_the_images_of_the_gallery_are_those_of_the_lowest_key_and_the_most_disputed(groups, images):
    made, again = make_gallery(groups, images), make_gallery(groups, images)
    assert made == again
    counts = []
    for clean, corrupted in made.disputed:
        answers = [one.answer for one in (corrupted or clean).answers]
        assert any(one.correct for one in (corrupted or clean).answers)
        counts.append(len(set(answers)))
    assert min(counts) >= 2
    assert counts == sorted(counts, reverse=True)
    assert len({clean.address for clean, _ in made.disputed}) == len(made.disputed) <= 12


def test_other_images_leave_no_gallery_and_a_line_that_says_why(groups, images, results, tmp_path, caplog):
    other = images.subset(torch.arange(40))
    made = make_gallery(groups, other)
    assert made.strips == made.disputed == ()
    (why,) = made.remarks
    assert (
        "noise <b> test, 40 images) are not those of the results (measured were noise <b>, test, 60)" in why
    )
    assert why in caplog.text
    page = write_report([*results.runs, results.database], tmp_path / "r.html", data=other).read_text()
    assert "are not those of the results" in page
    assert "disagree most" not in page


def test_results_of_a_limit_find_their_images_in_the_whole_split_by_their_fingerprint(results, tmp_path):
    whole = load_data("digits")
    config = EvaluateConfig(name="a", kinds=("fog", "pixelate"), severities=(1, 2, 3, 4, 5), spread=True)
    evaluate(load_model(results.runs[0]), whole.limited(50), config=config, db=tmp_path / "r.db")
    groups = comparisons(gather([tmp_path / "r.db"], title=""))
    made = make_gallery(groups, "digits")
    assert made.remarks == []
    assert made.disputed == []
    # Spread severities see different images, of which each is shown clean as well.
    assert [(kind, len(items)) for _, kind, items in made.strips] == [
        ("clean", 3),
        ("fog", 3),
        ("pixelate", 3),
    ]


def test_the_pictures_stay_within_their_share_of_the_page(groups, images, monkeypatch):
    monkeypatch.setattr(drawn, "_BYTES", 12_000)
    made = make_gallery(groups, images)
    assert sum(len(shot.address) for _, shot in shots(made)) <= 12_000
    assert re.fullmatch(r"\d+ more pictures are left out to keep the page small\.", made.remarks[-1])


def test_predictions_of_files_are_shown_on_clean_images_alone(results, images, tmp_path):
    np.save(tmp_path / "labels.npy", np.tile(images.labels.numpy(), 5))
    np.save(tmp_path / "fog.npy", np.tile(images.images.permute(0, 2, 3, 1).numpy(), (5, 1, 1, 1)))
    config = EvaluateConfig(name="a", corrupted=str(tmp_path))
    evaluate(load_model(results.runs[0]), images, config=config, db=tmp_path / "r.db")
    made = make_gallery(comparisons(gather([tmp_path / "r.db"], title="")), images)
    assert made.remarks == ["Corrupted images were read from files and are not shown."]
    assert [kind for _, kind, _ in made.strips] == ["clean"]
