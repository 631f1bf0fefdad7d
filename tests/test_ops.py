"""
The files of `docs/ops`, as the programs that they are for read them.

That every metric exists is checked in any case. Where there is no promtool its test is skipped, and
fails in CI; systemd is not everywhere.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.registry import Collector

from tasks_app.integrations.prometheus import OutcomeCollector
from tasks_app.models import Stock
from tests.conftest import do_without
from tests.testapp import tasks

OPS = Path(__file__).parent.parent / "docs" / "ops"

#: What a histogram's and a counter's samples are called after their metric's name.
ENDINGS = ("", "_total", "_bucket", "_sum", "_count")


def program(name: str) -> str:
    """Return where a program is, or skip the test."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"NOT TESTED: {name} is not installed")
    return found


def rules():
    return [
        rule
        for group in yaml.safe_load((OPS / "alerts.yml").read_text())["groups"]
        for rule in group["rules"]
    ]


def expressions():
    dashboard = json.loads((OPS / "grafana-dashboard.json").read_text())
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return shown + [rule["expr"] for rule in rules()] + scaling_queries()


def scaling_queries():
    """Return what the autoscalers ask Prometheus."""
    (trigger,) = read("autoscaling-keda.yaml")["spec"]["triggers"]
    (rule,) = read("prometheus-adapter.yaml")["externalRules"]
    return [trigger["metadata"]["query"], rule["metricsQuery"], rule["seriesQuery"]]


def read(name):
    """Return the one document of a YAML file."""
    return yaml.safe_load((OPS / name).read_text())


@pytest.mark.django_db
def test_every_metric_that_is_shown_or_watched_is_exported():
    """And every one that is exported is shown."""
    Stock.objects.create(pk=1, taken_at="2026-01-01T00:00:00Z")
    tasks.add.enqueue(1, 2)
    collector: Collector = OutcomeCollector()
    families = {metric.name for metric in collector.collect()}
    known = {name + ending: name for name in families for ending in ENDINGS}
    named = set(re.findall(r"tasks_app_\w+", " ".join(expressions())))
    assert named - set(known) == set()
    assert families - {known[name] for name in named} == set()


def test_each_alert_says_what_is_wrong():
    """Whoever is woken reads one line first."""
    for rule in rules():
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["labels"]["severity"] in {"critical", "warning"}


def test_prometheus_accepts_the_rules():
    """As its own checker says."""
    if shutil.which("promtool") is None:
        do_without("promtool", "promtool is not installed (Debian: prometheus)")
    checked = subprocess.run(
        [program("promtool"), "check", "rules", OPS / "alerts.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("unit", sorted(path.name for path in OPS.glob("*.service")))
def test_systemd_accepts_the_units(unit, tmp_path):
    """With programs that exist; nothing in a unit is unknown to it."""
    text = (OPS / unit).read_text()
    runnable = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE)
    (tmp_path / unit).write_text(runnable)
    checked = subprocess.run(
        [program("systemd-analyze"), "verify", tmp_path / unit],
        capture_output=True,
        text=True,
        check=False,
    )
    own = [line for line in checked.stderr.splitlines() if unit in line]
    assert own == []


def test_workers_are_told_to_stop_as_they_want_to_be():
    """SIGTERM for the main process alone, and time enough."""
    unit = (OPS / "shop-worker.service").read_text()
    assert "\nKillMode=mixed\n" in unit
    assert int(re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[1]) >= 20


def test_the_manifest_asks_the_pages_that_there_are():
    """Liveness for what hangs, readiness for what must not get requests yet."""
    web, worker, _ = yaml.safe_load_all((OPS / "kubernetes.yaml").read_text())
    container = web["spec"]["template"]["spec"]["containers"][0]
    assert container["livenessProbe"]["httpGet"]["path"] == "/tasks/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/tasks/readyz"
    spec = worker["spec"]["template"]["spec"]
    file = spec["containers"][0]["env"][0]["value"]
    assert file in spec["containers"][0]["livenessProbe"]["exec"]["command"][-1]
    assert spec["terminationGracePeriodSeconds"] >= 20


def test_both_autoscalers_want_the_same():
    """Of the worker there is, as many workers, at the same age and as fast."""
    keda, hpa = read("autoscaling-keda.yaml")["spec"], read("autoscaling-hpa.yaml")["spec"]
    _, worker, _ = yaml.safe_load_all((OPS / "kubernetes.yaml").read_text())
    assert keda["scaleTargetRef"]["name"] == worker["metadata"]["name"]
    assert hpa["scaleTargetRef"] == {
        "apiVersion": worker["apiVersion"],
        "kind": worker["kind"],
        "name": worker["metadata"]["name"],
    }
    assert (keda["minReplicaCount"], keda["maxReplicaCount"]) == (
        hpa["minReplicas"],
        hpa["maxReplicas"],
    )
    assert keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == hpa["behavior"]
    (trigger,), (metric,) = keda["triggers"], hpa["metrics"]
    target = metric["external"]["target"]
    assert (trigger["metricType"], trigger["metadata"]["threshold"]) == tuple(target.values())
    assert scaling_queries()[0] == scaling_queries()[1]


def test_the_autoscaler_asks_for_the_metric_that_the_adapter_makes():
    """A name of its own: the adapter's, not one that this app exports."""
    (rule,) = read("prometheus-adapter.yaml")["externalRules"]
    (metric,) = read("autoscaling-hpa.yaml")["spec"]["metrics"]
    assert metric["external"]["metric"]["name"] == rule["name"]["as"]


@pytest.mark.parametrize("query", scaling_queries()[:2], ids=["KEDA", "adapter"])
def test_prometheus_understands_the_autoscalers(query, tmp_path):
    """A rule with the query is a rule, as its own checker says."""
    if shutil.which("promtool") is None:
        do_without("promtool", "promtool is not installed (Debian: prometheus)")
    rules = {"groups": [{"name": "scaling", "rules": [{"record": "age", "expr": query}]}]}
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump(rules))
    subprocess.run([program("promtool"), "check", "rules", path], check=True)
