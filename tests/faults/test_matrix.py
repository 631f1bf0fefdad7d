"""The matrix and the cases name the same faults, and the page shows every one of them."""

from __future__ import annotations

import ast
from xml.etree import ElementTree as ET

import pytest

from tests.faults.conftest import CASES
from tests.faults.matrix import ELSEWHERE, FAULTS, PAGE, Row, numbers, read, table


def automated():
    """Return the faults of every case in the files of this folder."""
    for path in CASES.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                yield from numbers(node.name)


def test_every_fault_has_a_case_or_a_reason():
    """Nothing in the matrix is without a test by accident, and no test is without its row."""
    assert set(automated()) == set(FAULTS) - set(ELSEWHERE)


@pytest.mark.parametrize("number", FAULTS)
def test_the_page_shows_the_fault(number):
    """The published table has every row, with the result of some run."""
    (line,) = [
        line for line in PAGE.read_text().splitlines() if line.startswith(f"| F{number:02} ")
    ]
    promises, fault = FAULTS[number]
    assert f"| {fault} | {promises} |" in line
    assert "NOT RUN" not in line
    assert "FAILED" not in line


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("test_f08_a_relay_dies", [8]),
        ("test_f08_a_relay_dies[kill]", [8]),
        ("test_f26_f29_a_worker_dies", [26, 29]),
        ("test_f34_to_f36_a_helper_fails", [34, 35, 36]),
        ("test_f26_to_f30_a_child_dies[f27 in the body]", [27]),
        ("test_a_lost_worker", []),
    ],
)
def test_a_case_names_its_faults(name, named):
    """One, two, or a range; a parameter may say which of them."""
    assert numbers(name) == named


REPORT = """<testsuites><testsuite>
    <testcase name="test_f08_a_relay_dies[kill]"><properties>
        <property name="recovered_seconds" value="4.0"/>
    </properties></testcase>
    <testcase name="test_f08_a_relay_stumbles"><properties>
        <property name="recovered_seconds" value="1.0"/></properties><failure/></testcase>
    <testcase name="test_f08_a_relay_rests"><skipped/></testcase>
</testsuite></testsuites>"""


def test_a_report_becomes_a_row(tmp_path):
    """Passed, failed and skipped cases are told apart, and times are summed up."""
    (tmp_path / "faults-calls-postgres-redis.xml").write_text(REPORT)
    row = read(tmp_path.glob("*.xml"))[8]
    assert (row.passed, row.failed, row.pairs) == (1, 1, {"postgres-redis"})
    assert row.names == {"test_f08_a_relay_dies", "test_f08_a_relay_stumbles"}
    (line,) = [line for line in table({8: row}) if line.startswith("| F08 ")]
    assert "1 passed, 1 FAILED on 1 | 2.5 / 4.0 |" in line


def test_a_row_without_a_run_says_so():
    """A case that ran nowhere, or was skipped everywhere, is no result."""
    row = Row()
    row.add("postgres-redis", ET.fromstring("<testcase name='test_f08_x'><skipped/></testcase>"))
    (line,) = [line for line in table({8: row}) if line.startswith("| F08 ")]
    assert "NOT RUN" in line
