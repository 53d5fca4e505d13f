"""The sentence that compares a published baseline with a front."""

from dataclasses import replace

from nas.results.front_comparison import describe_comparison
from tests.fake_baselines import some_baseline
from tests.fake_runs import some_latency, some_record


def test_the_most_accurate_of_the_better_members_is_named_with_both_margins() -> None:
    members = [some_record(0, 0.5, 1.0), some_record(1, 0.75, 2.0), some_record(2, 0.8, 2.5), some_record(3, 0.9, 4.0)]
    assert describe_comparison(some_baseline(0.6, 3.0), members) == (
        "Trial 2 beats mini in both accuracy and latency: +20.0 percentage points (80.0% against 60.0%), and 1.20 "
        "times as fast (2.5 against 3 ms, predicted); the 95 % intervals of latency overlap; 2 of 4 members beat it"
    )


def test_no_member_beats_a_baseline_that_is_as_accurate_or_as_fast() -> None:
    members = [some_record(0, 0.6, 1.0), some_record(1, 0.9, 3.0)]
    assert describe_comparison(some_baseline(0.6, 3.0), members) == (
        "No member of the front beats mini (60.0%, 3 ms predicted) in both accuracy and latency"
    )


def test_the_only_model_of_a_run_is_called_so() -> None:
    base = some_record(-1, 0.9, 0.1, phase="base")
    assert describe_comparison(some_baseline(0.6, 3.0), [base]).startswith("The model of this run beats mini in both")
    slower = some_record(-1, 0.9, 5.0, phase="base")
    assert describe_comparison(some_baseline(), [slower]).startswith("The model of this run does not beat mini (60.0%")


def test_overlapping_intervals_are_named() -> None:
    close = describe_comparison(some_baseline(0.6, 3.0), [some_record(0, 0.61, 2.9)])
    assert close.endswith("the 95 % intervals of accuracy and latency overlap")
    clear = describe_comparison(some_baseline(0.6, 3.0), [some_record(0, 0.9, 0.1)])
    assert "overlap" not in clear


def test_latencies_of_different_origin_are_not_compared() -> None:
    measured = some_record(0, 0.9, 0.1, latency=some_latency(0.1, kind="measured", device="this CPU"))
    assert describe_comparison(some_baseline(), [measured]) == (
        "mini is not compared, because its latency is predicted for Jetson Orin Nano, but those of the members are "
        "measured on this CPU"
    )
    on_two = replace(some_latency(0.1), threads=2)
    assert "is not compared" in describe_comparison(some_baseline(), [some_record(0, 0.9, 0.1, latency=on_two)])
    assert describe_comparison(some_baseline(), []).endswith("because no member has both accuracy and latency yet")
