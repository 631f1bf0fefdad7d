"""What a comparison makes of its figures: ratios against targets, tables, files."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from benchmarks import compare, tables, targets
from benchmarks.course import Course, Reading, Sizes
from benchmarks.figures import Sheet
from benchmarks.lineup import DRAIN, LINEUP, Contestant
from benchmarks.responding import percentile
from benchmarks.targets import FEW, MANY, Target

OWN, OTHER = "ours", "theirs"


def sheet_of(measure="speed", better="higher", **values):
    """Return a sheet with values of one measure by contestant."""
    sheet = Sheet()
    for contestant, each in values.items():
        for value in each:
            sheet.add(measure, contestant, value, unit="calls/s", better=better)
    return sheet


def verdict_on(monkeypatch, target, sheet):
    """Return what is said of a target that stands alone."""
    monkeypatch.setattr(targets, "TARGETS", (target,))
    (verdict,) = targets.verdicts(sheet)
    return verdict


def test_a_target_is_reached_by_the_median_of_the_ratios_within_the_rounds(monkeypatch):
    """Rounds in which the machine was slow count like the others."""
    sheet = sheet_of(ours=[30, 2, 90], theirs=[10, 1, 20])
    verdict = verdict_on(monkeypatch, Target("speed", OWN, OTHER, 3), sheet)
    assert verdict.is_reached
    assert (verdict.ratio.lowest, verdict.ratio.median, verdict.ratio.highest) == (2, 3, 4.5)
    assert not verdict_on(monkeypatch, Target("speed", OWN, OTHER, 3.1), sheet).is_reached


def test_a_target_may_be_a_most(monkeypatch):
    """Of latencies and memory, less is better."""
    sheet = sheet_of(better="lower", ours=[19], theirs=[10])
    reached = verdict_on(monkeypatch, Target("speed", OWN, OTHER, 2, at_most=True), sheet)
    missed = verdict_on(monkeypatch, Target("speed", OWN, OTHER, 1.8, at_most=True), sheet)
    assert (reached.is_reached, missed.is_reached) == (True, False)
    assert (str(reached.target), str(missed.target)) == ("≤ 2", "≤ 1.8")


def test_a_target_without_its_peer_is_told_as_not_measured(monkeypatch):
    """A peer that failed reaches nothing for us."""
    verdict = verdict_on(monkeypatch, Target("speed", OWN, OTHER, 0), sheet_of(ours=[1]))
    assert not verdict.is_reached
    assert "| speed | ours / theirs | ≥ 0 | not measured |" in tables.of_targets([verdict])


def test_a_target_whose_measure_was_not_taken_is_not_told(monkeypatch):
    monkeypatch.setattr(targets, "TARGETS", (Target("latency", OWN, OTHER, 1),))
    assert targets.verdicts(sheet_of(ours=[1], theirs=[1])) == []


@pytest.mark.parametrize(
    ("better", "few", "many", "reached"),
    [
        ("higher", 100, 80, True),
        ("higher", 100, 79, False),
        ("lower", 100, 125, True),
        ("lower", 100, 126, False),
    ],
)
def test_whatever_is_measured_by_size_may_be_a_quarter_slower(better, few, many, reached):
    """A million rows have a target in each measure, whichever way is slower."""
    sheet = sheet_of(measure="look", better=better, **{FEW: [few], MANY: [many]})
    (verdict,) = targets.verdicts(sheet)
    assert verdict.is_reached is reached


def test_the_targets_name_measures_and_contestants_that_there_are():
    """A renamed contestant does not lose its target without a word."""
    names = {contestant.name for contestant in LINEUP}
    elsewhere = ("relay", "embedded")
    ours = [each for each in targets.TARGETS if not each.measure.startswith(elsewhere)]
    assert {name for each in ours for name in (each.own, each.other)} <= names
    assert len(ours) == 13


def test_parts_that_ran_again_replace_their_figures_and_no_others(tmp_path):
    """`--only` keeps what it did not measure; a peer that is gone has no old figure left."""
    figures = tmp_path / "figures.json"
    part = SimpleNamespace(name="drain")
    old = sheet_of(ours=[1], theirs=[2])
    old.add("latency", OWN, 3, unit="ms", better="lower")
    compare.write(tmp_path, part, old, {})
    compare.write(tmp_path, part, sheet_of(ours=[5]), {})
    told = [(each.measure, each.contestant, each.values) for each in Sheet.read(figures)]
    assert sorted(told) == [("latency", OWN, [3]), ("speed", OWN, [5])]


def test_a_table_has_a_row_for_each_figure_with_its_spread():
    rows = tables.of_figures(sheet_of(ours=[1000, 1200, 900], theirs=[0.5])).splitlines()
    assert rows[2].startswith("| speed | ours | 1,000 | 900 to 1,200 | calls/s | ")
    assert rows[3].startswith("| speed | theirs | 0.500 | 0.500 to 0.500 | calls/s | ")


def test_a_page_gets_its_tables_between_the_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n")
    tables.put_between_marks(page, "new")
    tables.put_between_marks(page, "newest")
    assert page.read_text() == f"before\n{tables.BEGIN}\n\nnewest\n\n{tables.END}\nafter\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="has no <!-- figures"):
        tables.put_between_marks(page, "new")


def test_the_page_has_its_marks():
    """The page that a run writes into is there, and can be written into."""
    page = compare.PAGE.read_text()
    assert page.count(tables.BEGIN) == page.count(tables.END) == 1


@dataclass
class Turns:
    """Turns that note who took them, of whom one fails in its second round."""

    failing: str
    taken: list = field(default_factory=list)

    def __call__(self, course, contestant):
        self.taken.append(contestant.name)
        if contestant.name == self.failing and self.taken.count(self.failing) == 2:
            raise RuntimeError("a fault")
        return [Reading("speed", 1, "calls/s", "higher")]

    @property
    def __name__(self):
        return "turns"


def test_a_contestant_that_fails_is_named_and_left_out_while_the_others_go_on(capsys):
    """It has no figure, since its rounds would not match those of the others."""
    contestants = [Contestant(name, name, "module", "as is") for name in "abc"]
    course, turns, sheet = Course(None, contestants), Turns("b"), Sheet()
    course.run(sheet, 3, DRAIN, turns)
    assert [(each.contestant, len(each.values)) for each in sheet] == [("a", 3), ("c", 3)]
    assert course.failures == ["turns: b"]
    assert "turns: b FAILED and is left out: a fault" in capsys.readouterr().err
    assert "".join(turns.taken) == "abc" + "bca" + "ac"


def test_a_contestant_without_an_environment_takes_no_part(capsys):
    """One failed installation is told once, not once in each round."""

    def python(contestant):
        if contestant.name == "b":
            raise RuntimeError("no network")

    contestants = [Contestant(name, name, "module", "as is") for name in "abc"]
    course = Course(SimpleNamespace(python=python), contestants)
    course.equip()
    assert [each.name for each in course.contestants] == ["a", "c"]
    assert course.failures == ["environment: b"]
    assert "no network" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--quick"], ["--contestants", "own"]])
def test_the_page_shows_no_part_of_a_run(option, capsys):
    """What measures little, or not everybody, is written elsewhere."""
    with pytest.raises(SystemExit):
        compare.parsed(option)
    assert "need --output" in capsys.readouterr().err
    assert compare.parsed([*option, "--output", "elsewhere"])


def test_a_part_that_fails_as_a_whole_is_named(capsys):
    """The next part is measured all the same."""
    course = Course(None, ())

    def run(sheet, rounds):
        raise RuntimeError("no server")

    sheet = compare.measure(compare.Part("sizes", run, 1), course, 5)
    assert list(sheet) == []
    assert course.failures == ["sizes"]
    assert "sizes FAILED: no server" in capsys.readouterr().err


def test_slow_contestants_drain_fewer_calls():
    """A drain takes seconds, not minutes, whoever it is."""
    slow, fast = (Contestant("", "", "", "", pace=pace) for pace in (75, 5_000))
    sizes = Sizes(tasks=5_000, seconds=6)
    assert sizes.drained_by(slow, sizes.tasks) == 450
    assert sizes.drained_by(fast, sizes.tasks) == 5_000


def test_percentiles_are_what_so_many_of_a_hundred_do_not_exceed():
    values = range(101)
    assert [percentile(values, percent) for percent in (50, 95, 99)] == [50, 95, 99]
