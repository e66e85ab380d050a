"""The verdict: each of its branches on curves and scores written out, and commands that the command line accepts."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from charlm.config import Config
from charlm.config.plain import flat, merge, nest
from charlm.evaluation.text_metrics import REFERENCE
from charlm.evaluation.verdict import Advice, Evidence, trend, verdict
from conftest import Charlm

FALLING = [(1.0, 2.0), (2.0, 1.8), (3.0, 1.7), (4.0, 1.6)]
FLAT = [(1.0, 2.0), (2.0, 1.62), (3.0, 1.601), (4.0, 1.6)]
RISING = [(1.0, 2.0), (2.0, 1.6), (3.0, 1.65), (4.0, 1.76)]


def dense(curve: list[tuple[float, float]], lower: float = 0.0) -> list[tuple[float, float]]:
    """A training curve: ten points an epoch on the lines between the points of a curve, `lower` below them."""
    points = []
    for (start, high), (end, low) in zip([(0.0, 4.0), *curve], curve, strict=False):
        points += [(start + i / 10 * (end - start), high + i / 10 * (low - high) - lower) for i in range(1, 11)]
    return points


def evidence(validation: list[tuple[float, float]], training: list[tuple[float, float]], **more: Any) -> Evidence:
    """A run of four epochs that has reached its end."""
    settings = more.pop("settings", {})
    config = Config.from_dict(
        {
            "trainer": {"max_epochs": 4, **settings.get("trainer", {})},
            "checkpoint": settings.get("checkpoint", {}),
            "model": {"hidden": 128, "embedding": 64, "dropout": 0.1, **settings.get("model", {})},
            "optimizer": {"lr": 0.006},
            "data": settings.get("data", {}),
            "init_from": settings.get("init_from", ""),
        }
    )
    known: dict[str, Any] = {"run": "runs/x", "config": config, "epochs": 4.0, "steps": 400, "seconds": 60.0}
    return Evidence(training=training, validation=validation, **(known | more))


# -- where the losses went


def test_a_loss_that_falls_in_the_last_quarter_still_improves() -> None:
    course = trend(dense(FALLING, 0.1), FALLING)
    assert course.state == "still improving"
    assert (course.since, course.before, course.after) == (3.0, 1.7, 1.6)
    assert course.change == pytest.approx(-0.1 / 1.7)
    # Ten values end at epoch 4 and reach back to, but not including, 3.6: their mean is halfway in between.
    assert course.training_after == pytest.approx(1.6 - 0.1 + (0 + 1 + 2 + 3) / 4 * 0.01)


def test_the_last_quarter_begins_between_two_validations() -> None:
    course = trend([], [(1.0, 2.0), (2.0, 1.0)])
    assert course.state == "still improving"
    assert (course.since, course.before) == (1.5, 1.5)


def test_a_loss_that_hardly_moves_has_converged() -> None:
    assert trend(dense(FLAT), FLAT).state == "converged"
    just = [(3.0, 1.0), (4.0, 1 - 0.0049)]
    enough = [(3.0, 1.0), (4.0, 1 - 0.0051)]
    assert trend([], just).state == "converged"
    assert trend([], enough).state == "still improving"


def test_a_rising_loss_over_a_falling_one_over_fits_since_its_lowest_point() -> None:
    course = trend(dense(FALLING), RISING)
    assert course.state == "over-fitting"
    assert (course.since, course.before, course.after) == (2.0, 1.6, 1.76)
    assert course.training_after < course.training_before


def test_two_rising_losses_mean_that_it_gets_worse() -> None:
    assert trend(dense(RISING), RISING).state == "getting worse"


def test_a_rise_too_small_to_count_is_none() -> None:
    assert trend(dense(FALLING), [(1.0, 2.0), (2.0, 1.6), (3.0, 1.605), (4.0, 1.607)]).state == "converged"


@pytest.mark.parametrize("validation", [[(1.0, 2.0)], [(0.8, 2.1), (1.0, 2.0)]])
def test_validations_near_the_end_make_no_trend(validation: list[tuple[float, float]]) -> None:
    assert trend(dense(FALLING), validation).state == "too early"


def test_without_validation_the_training_loss_is_reported() -> None:
    course = trend(FALLING, [])
    assert (course.state, course.since, course.before, course.after) == ("not validated", 3.0, 1.7, 1.6)
    assert trend([], []).state == "not trained"


# -- what is said, and what is advised


def test_still_improving() -> None:
    judged = verdict(evidence(FALLING, dense(FALLING), bits_per_character=2.0))
    assert judged.state == "still improving"
    assert judged.sentences == [
        "Still improving: in the last quarter of the training, the validation loss fell by 5.9%, from 1.700 to 1.600 "
        "nats per token.",
        "The validation text takes 2.00 bits per character (a perplexity of 4 per character).",
    ]
    assert judged.advice == Advice(
        "Next, train for twice as long:", "charlm train --resume runs/x --trainer.max_epochs 8"
    )


@pytest.mark.parametrize(
    ("limits", "option"),
    [
        ({"max_epochs": 4}, "--trainer.max_epochs 8"),
        ({"max_epochs": -1, "max_steps": 400}, "--trainer.max_steps 800"),
        ({"max_epochs": -1, "max_time": "60s"}, "--trainer.max_time 2m"),
        ({"max_epochs": 9, "max_time": "45s"}, "--trainer.max_time 1m30s"),
    ],
)
def test_more_of_what_ended_the_run(limits: dict[str, Any], option: str) -> None:
    judged = verdict(evidence(FALLING, dense(FALLING), settings={"trainer": limits}))
    assert judged.advice.command == f"charlm train --resume runs/x {option}"


FELL_THEN_STALE = [(1.0, 2.0), (2.0, 1.8), (7.5, 1.7), (8.0, 1.6), (9.0, 1.601), (10.0, 1.602)]


def test_a_run_that_its_patience_ended_does_not_still_improve() -> None:
    """The loss fell in the last quarter, and yet the training has decided that there is no gain any more."""
    limits = {"trainer": {"max_epochs": 40}, "checkpoint": {"patience": 2}}
    stopped = evidence(FELL_THEN_STALE, [], settings=limits, epochs=10.0, steps=1000, stale_validations=2)
    assert stopped.end == "patience"
    assert stopped.fraction == 1.0
    judged = verdict(stopped)
    assert judged.state == "converged"
    assert judged.sentences[0] == (
        "Converged: the training stopped early, because 2 validations in a row brought no "
        "improvement. The lowest validation loss is 1.600 nats per token. The best weights, of epoch 8, are kept."
    )
    assert "--model.hidden 256" in judged.advice.command


def test_patience_ends_a_run_only_by_what_the_training_counted() -> None:
    """Losses that are equal once rounded may have been gains: only the training knows."""
    limits = {"trainer": {"max_epochs": 40}, "checkpoint": {"patience": 2}}
    going = evidence(FELL_THEN_STALE, [], settings=limits, epochs=10.0, steps=1000, stale_validations=1)
    assert going.end is None
    assert verdict(going).advice.command == "charlm train --resume runs/x"


def test_patience_after_a_few_epochs_advises_smaller_steps() -> None:
    limits = {"trainer": {"max_epochs": 9}, "checkpoint": {"patience": 2}}
    curve = [(1.0, 2.0), (2.0, 1.6), (2.5, 1.601), (2.6, 1.602)]
    stopped = evidence(curve, dense(FLAT, 0.1), settings=limits, epochs=2.6, steps=260, stale_validations=2)
    assert verdict(stopped).advice.command.endswith("--optimizer.lr 0.003")


def test_a_run_that_is_not_finished_goes_on() -> None:
    half = evidence(FALLING, dense(FALLING), settings={"trainer": {"max_epochs": 8}}, run="my runs/a")
    assert (half.end, half.fraction) == (None, 0.5)
    judged = verdict(half)
    assert judged.sentences[0] == "Not finished: 50% of the run is done (4 epochs)."
    assert judged.advice.command == "charlm train --resume 'my runs/a'"


def test_the_fraction_that_is_done_is_that_of_the_closest_limit() -> None:
    limits = {"max_epochs": 40, "max_steps": 4000, "max_time": "80s"}
    assert evidence([], [], settings={"trainer": limits}).fraction == 0.75


def test_converged_after_a_few_epochs() -> None:
    judged = verdict(evidence(FLAT, dense(FLAT, 0.1)))
    assert judged.state == "converged"
    assert "after only 4 epochs" in judged.advice.sentence
    assert judged.advice.command == "charlm train --resume runs/x --trainer.max_epochs 8"


def longer(curve: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(2 * epoch, loss) for epoch, loss in curve]


LONG: dict[str, Any] = {"epochs": 8.0}


def test_converged_without_room() -> None:
    judged = verdict(evidence(longer(FLAT), longer(dense(FLAT, 0.1)), **LONG))
    assert judged.state == "converged"
    assert "less than 0.5%" in judged.sentences[0]
    assert "too small to learn more" in judged.advice.sentence
    options = "--model.hidden 256 --optimizer.lr none"
    assert judged.advice.command == f"charlm train --config runs/x/config.yaml {options}"


def test_a_wider_network_takes_its_embedding_along_and_no_old_weights() -> None:
    settings = {"model": {"embedding": 128}, "init_from": "runs/y"}
    judged = verdict(evidence(longer(FLAT), longer(dense(FLAT, 0.1)), settings=settings, **LONG))
    assert judged.advice.command.endswith("--model.hidden 256 --model.embedding 256 --optimizer.lr none --init_from ''")


def test_converged_with_room_to_spare_wants_text_or_dropout() -> None:
    judged = verdict(evidence(FLAT, dense(FLAT, 0.3)))
    assert judged.state == "converged"
    assert "More text" in judged.advice.sentence
    assert judged.advice.command == "charlm train --config runs/x/config.yaml --model.dropout 0.3"


@pytest.mark.parametrize(
    ("dropout", "option"),
    [(0.0, "--model.dropout 0.2"), (0.45, "--model.dropout 0.6"), (0.5, "--model.hidden 64 --optimizer.lr none")],
)
def test_over_fitting(dropout: float, option: str) -> None:
    judged = verdict(evidence(RISING, dense(FALLING), settings={"model": {"dropout": dropout}}))
    assert judged.state == "over-fitting"
    assert judged.sentences[0].startswith("Over-fitting since epoch 2: ")
    assert "risen by 10.0%, from 1.600 to 1.760 nats per token" in judged.sentences[0]
    assert judged.sentences[0].endswith("The best weights, of epoch 2, are kept.")
    assert judged.advice.command == f"charlm train --config runs/x/config.yaml {option}"


def test_getting_worse_wants_smaller_steps() -> None:
    judged = verdict(evidence(RISING, dense(RISING)))
    assert "steps are too large" in judged.sentences[0]
    assert judged.advice.command == "charlm train --config runs/x/config.yaml --optimizer.lr 0.003"


def test_without_validation_text_some_is_asked_for() -> None:
    judged = verdict(evidence([], FALLING, settings={"data": {"text": ["-"]}}, validation_text=False))
    assert "from 1.700 to 1.600" in judged.sentences[0]
    assert judged.advice.command == "charlm train --config runs/x/config.yaml --data.val_fraction 0.1 < TEXT"


def test_a_validation_text_that_was_not_read_yet_is_not_denied() -> None:
    judged = verdict(evidence([], FALLING, epochs=2.0, steps=200))
    assert judged.sentences[1].startswith("Not validated yet. In the last quarter")
    assert judged.advice.command == "charlm train --resume runs/x"


def test_too_early_and_nothing_at_all() -> None:
    assert verdict(evidence([(4.0, 1.5)], FALLING)).advice.command.endswith("--trainer.max_epochs 8")
    nothing = verdict(evidence([], [], epochs=0.0, steps=0, seconds=0.0))
    assert nothing.sentences == [
        "Not finished: 0% of the run is done (0 epochs).",
        "Not trained: no loss was logged yet.",
    ]
    assert nothing.advice.command == "charlm train --resume runs/x"


def test_a_loss_that_has_not_begun_to_fall_has_not_converged() -> None:
    """Before, a run of 52 steps whose loss was still that of the token frequencies had converged."""
    judged = verdict(evidence(FLAT, dense(FLAT), epochs=0.1, steps=52))
    assert judged.state == "too early"
    assert any(sentence.startswith("Too early to judge after 52 optimiser steps") for sentence in judged.sentences)
    assert verdict(evidence(FLAT, dense(FLAT), steps=100)).state == "converged"


def test_many_skipped_steps_want_a_lower_learning_rate() -> None:
    few = verdict(evidence(FALLING, dense(FALLING), skipped=10))
    assert few.advice.command == "charlm train --resume runs/x --trainer.max_epochs 8"
    many = verdict(evidence(FALLING, dense(FALLING), skipped=11))
    assert "not finite" in many.advice.sentence
    assert many.advice.command == "charlm train --config runs/x/config.yaml --optimizer.lr 0.003"


@pytest.mark.parametrize(
    ("dropout", "higher", "option"),
    [(0.4, 0.1, "--model.dropout 0.2"), (0.4, -0.01, "--model.hidden"), (0.29, 0.1, "--model.hidden")],
)
def test_under_fitting_by_dropout(dropout: float, higher: float, option: str) -> None:
    training = longer(dense(FLAT, -higher))
    judged = verdict(evidence(longer(FLAT), training, settings={"model": {"dropout": dropout}}, **LONG))
    assert judged.state == "converged"
    assert ("Under-fitting" in judged.advice.sentence) == (option == "--model.dropout 0.2")
    assert option in judged.advice.command


@pytest.mark.parametrize(
    ("model", "data", "small"),
    [
        ({"dropout": 0.5, "hidden": 63}, {}, True),
        ({"dropout": 0.5, "hidden": 64}, {}, False),
        ({"dropout": 0.4, "hidden": 63}, {}, False),
        ({}, {"batch_size": 8, "seq_length": 24}, True),  # 100 steps an epoch of 192 tokens
        ({}, {"batch_size": 8, "seq_length": 25}, False),
        ({}, {"batch_size": 8, "seq_length": 24, "unit": "line"}, False),
    ],
)
def test_a_text_that_is_too_small_for_any_setting(model: dict[str, Any], data: dict[str, Any], small: bool) -> None:
    settings = {"model": model, "data": {"text": ["my text.txt"], **data}}
    judged = verdict(evidence(RISING, dense(FALLING), settings=settings))
    assert ("too small" in judged.advice.sentence) == small
    command = "charlm train 'my text.txt' MORE_TEXT --config runs/x/config.yaml"
    assert (judged.advice.command == command) == small


def test_more_text_than_standard_input() -> None:
    settings = {"model": {"dropout": 0.5, "hidden": 32}, "data": {"text": ["-"]}}
    judged = verdict(evidence(RISING, dense(FALLING), settings=settings))
    assert judged.advice.command == "charlm train - MORE_TEXT --config runs/x/config.yaml < TEXT"


def test_skipped_steps_are_reported() -> None:
    judged = verdict(evidence(FALLING, dense(FALLING), skipped=3))
    assert judged.sentences[-1].startswith("3 of 400 steps were skipped")
    assert "`optimizer.lr`" in judged.sentences[-1]


@pytest.mark.parametrize(
    ("validation", "training", "more"),
    [
        (FALLING, dense(FALLING), {}),
        (FLAT, dense(FLAT), {}),
        (longer(FLAT), longer(dense(FLAT, 0.1)), LONG | {"settings": {"init_from": "runs/y"}}),
        (RISING, dense(FALLING), {}),
        (RISING, dense(RISING), {}),
        ([], dense(FLAT), {"settings": {"data": {"val_fraction": 0.0}}, "validation_text": False}),
        (FALLING, dense(FALLING), {"settings": {"trainer": {"max_epochs": -1, "max_time": "60s"}}}),
        (FALLING, dense(FALLING), {"skipped": 50}),
        (RISING, dense(FALLING), {"settings": {"model": {"dropout": 0.5, "hidden": 32}}}),
        (longer(FLAT), longer(dense(FLAT, -0.1)), LONG | {"settings": {"model": {"dropout": 0.4}}}),
    ],
)
def test_every_command_is_accepted_and_changes_something(
    validation: list[tuple[float, float]],
    training: list[tuple[float, float]],
    more: dict[str, Any],
    run: Path,
    charlm: Charlm,
) -> None:
    given = evidence(validation, training, run=str(run), **more)
    # The config of a run has a value for every setting.
    chosen = {name: value for name, value in flat(given.config.to_dict()).items() if value is not None}
    values = merge(yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")), nest(chosen))
    (run / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    (run / "checksums.json").unlink()  # the settings are changed by hand
    program, *words = shlex.split(verdict(given).advice.command)
    assert (program, words[0]) == ("charlm", "train")
    done = charlm(*words, "--print_config")
    assert (done.status, done.err) == (0, "")
    assert Config.from_dict(yaml.safe_load(done.out)) != Config.from_dict(values)


def test_the_n_gram_is_compared_in_bits() -> None:
    references = {REFERENCE: {"ngram_bits": 2.5}}
    said = verdict(evidence(FALLING, FALLING, bits_per_character=2.0, references=references)).sentences[1]
    assert said.endswith("(a perplexity of 4 per character), 20% less than under a 6-gram model (2.50 bits).")


@pytest.mark.parametrize(("size", "caveat"), [(211, True), (10_000, False), (0, False)])
def test_metrics_of_a_short_text_have_a_caveat(size: int, caveat: bool) -> None:
    judged = verdict(evidence([(1, 2.0), (2, 1.0)], [(1, 2.0), (2, 1.0)], scores={"ngram_bits": 2.0}, scored_size=size))
    assert any("only 211 characters" in sentence for sentence in judged.sentences) == caveat
