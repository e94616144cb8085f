"""helm-unittest: the promises of the chart, one suite a theme."""

import xml.etree.ElementTree as xml

from common import CACHE, CHART, command


def tests(counts):
    """Every suite of helm/tests passes, and its number of tests is counted."""
    report = CACHE / "chart-home" / "unit.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    words = ["--strict", "--file", "tests/*_test.yaml", "--output-type", "JUnit", "--output-file", report]
    answer = command("helm-unittest", *words, CHART)
    if answer.returncode:
        yield f"{answer.stdout.strip()} {answer.stderr.strip()}"
    cases = list(xml.parse(report).iter("testcase")) if report.exists() else []
    counts["unit_tests"] = len(cases)
    counts["unit_suites"] = len(list((CHART / "tests").glob("*_test.yaml")))
    if not cases:
        yield "helm/tests has no test"
