"""STAND-IN for a Kubernetes API server, for tests in which no cluster can run: it speaks HTTP to the real client.

It implements the parts of Jobs, pods and events that dagster-k8s and the launcher of workers use. A pod is a process of
this machine with the pod's real command and environment; scheduling, image pulls and mounted secrets are only reported
in its status. Cluster failures (no node, no image, out of memory, eviction) happen to the pods that a test selects.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from transcription_assets.workers.kubernetes_job import MANIFEST_LABEL
from transcription_assets_tests.demo import ROOT
from transcription_assets_tests.k8s.cluster_instance import NAMESPACE, write_kubeconfig
from transcription_assets_tests.k8s.forked import Forked
from transcription_assets_tests.serving import answering

GRACE_S = 10.0
POD = "pod-of-"

Json = dict[str, Any]

INDEX = "batch.kubernetes.io/job-completion-index"
DISRUPTIONS = {"Evicted": "TerminationByKubelet", "Preempting": "PreemptionByScheduler"}
"""Reason of a pod -> reason of its condition DisruptionTarget."""


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass(slots=True)
class Node:
    """A node that pods can be scheduled on; its `gpus` are never used up."""

    labels: Mapping[str, str]
    gpus: int = 0


@dataclass(slots=True)
class Pod:
    """A pod: its object in the API, and its process."""

    body: Json
    process: "subprocess.Popen[bytes] | Forked | None" = None
    log: Path | None = None
    waiter: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        return bool(self.body["status"]["phase"] == "Running")

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    @property
    def job(self) -> str:
        return self.labels["job-name"]

    @property
    def labels(self) -> Mapping[str, str]:
        found: Mapping[str, str] = self.body["metadata"]["labels"]
        return found

    @property
    def index(self) -> int:
        """Return the index in an Indexed Job, -1 in another."""
        return int(self.body["metadata"].get("annotations", {}).get(INDEX, -1))

    @property
    def has_ended(self) -> bool:
        return self.body["status"]["phase"] in {"Succeeded", "Failed"}

    @property
    def step(self) -> str:
        """Return the step, or an empty string for the pod of a run."""
        return self.labels.get("dagster/op", "")

    def kill(self, how: int = signal.SIGKILL) -> None:
        assert self.process
        os.kill(self.process.pid, how)


@dataclass(slots=True)
class Cluster:
    """The state of the server. `fate` returns the failure of a new pod, or an empty string.

    `is_cold` returns whether a pod's process does its own imports, as in a cluster, or is forked with all imports done.
    """

    folder: Path
    nodes: list[Node]
    config_maps: dict[str, dict[str, str]] = field(default_factory=dict)
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    fate: Callable[[Pod], str] = lambda _pod: ""
    is_cold: Callable[[Pod], bool] = lambda _pod: True
    asked: list[Json] = field(default_factory=list)
    jobs: dict[str, Json] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    events: list[Json] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    # --- requests of the client

    def create_job(self, body: Json) -> Json:
        with self.lock:
            self.asked.append(json.loads(json.dumps(body)))
            name = body["metadata"]["name"]
            body["metadata"] |= {"creationTimestamp": now(), "uid": f"uid-{name}", "namespace": NAMESPACE}
            body["status"] = {"startTime": now(), "active": 1}
            self.jobs[name] = body
            if body["spec"].get("completionMode") == "Indexed":
                self._fill(body)
            else:
                self._add_pod(body)
        return body

    def add_pod(self, body: Json) -> None:
        """Add a pod without a process: that of the test, which is a coordinator."""
        body["metadata"] |= {"uid": f"uid-{body['metadata']['name']}", "namespace": NAMESPACE}
        body["metadata"] |= {"creationTimestamp": now(), "labels": {"job-name": ""}}
        body["status"] = {"phase": "Running", "conditions": [], "startTime": now()}
        self.pods[body["metadata"]["name"]] = Pod(body)

    def delete_pod(self, name: str) -> None:
        """Delete a pod, and the Jobs that it owns."""
        with self.lock:
            uid = self.pods.pop(name).body["metadata"]["uid"]
            owned = [
                job
                for job, body in self.jobs.items()
                if uid in [owner["uid"] for owner in body["metadata"].get("ownerReferences", [])]
            ]
        for job in owned:
            self.delete_job(job)

    def _fill(self, job: Json) -> None:
        """Start pods of an Indexed Job, in the order of their indexes, as many as its parallelism allows."""
        name, spec, status = job["metadata"]["name"], job["spec"], job["status"]
        if "deletionTimestamp" in job["metadata"]:
            return
        ended = _indexes(status, "completedIndexes") | _indexes(status, "failedIndexes")
        live = {pod.index for pod in self.pods.values() if pod.job == name and not pod.has_ended}
        for index in range(spec["completions"]):
            if len(live) < spec["parallelism"] and index not in ended | live:
                live.add(index)
                self._add_pod(job, index)
        status["active"] = len(live)
        if len(ended) == spec["completions"]:
            failed = bool(status.get("failedIndexes"))
            status["conditions"] = [
                {"type": "Failed", "status": "True", "reason": "FailedIndexes", "message": ""}
                if failed
                else {"type": "Complete", "status": "True"}
            ]

    def _index_ended(self, pod: Pod, job: Json, *, failed: bool) -> None:
        """Apply backoffLimitPerIndex and the podFailurePolicy."""
        spec, status = job["spec"], job["status"]
        assert spec["template"]["spec"]["restartPolicy"] == "Never"
        rules = spec.get("podFailurePolicy", {}).get("rules", [])
        met = {(item["type"], item["status"]) for item in pod.body["status"]["conditions"]}
        wanted = [{(item["type"], item["status"]) for item in rule.get("onPodConditions", [])} for rule in rules]
        ignored = any(rule["action"] == "Ignore" and kinds & met for rule, kinds in zip(rules, wanted, strict=True))
        if not ignored:
            assert spec["backoffLimitPerIndex"] == 0, "the stand-in retries no index"
            which = "failedIndexes" if failed else "completedIndexes"
            found = _indexes(status, which) | {pod.index}
            status[which] = ",".join(map(str, sorted(found)))
        self._fill(job)

    def delete_job(self, name: str) -> Json:
        with self.lock:
            job = self.jobs.get(name, {"spec": {}, "metadata": {}})
            gone = [pod for pod in self.pods.values() if pod.job == name]
            for pod in gone:
                self._stop(pod)
            if job["spec"].get("completionMode") == "Indexed":
                job["metadata"]["deletionTimestamp"] = now()
                threading.Thread(target=self._deleted, args=(name, gone), daemon=True).start()
            else:
                self._deleted(name, ())
                for pod in gone:
                    self.pods.pop(pod.name, None)
        return {"kind": "Status", "status": "Success"}

    def _deleted(self, name: str, pods: Sequence[Pod]) -> None:
        """Remove a Job when its pods have ended."""
        for pod in pods:
            if pod.waiter:
                pod.waiter.join()
        with self.lock:
            self.jobs.pop(name, None)
            for pod in pods:
                self.pods.pop(pod.name, None)

    # --- actions of the cluster

    def _add_pod(self, job: Json, index: int | None = None) -> None:
        name = job["metadata"]["name"]
        template = json.loads(json.dumps(job["spec"]["template"]))
        number = sum(1 for pod in self.pods.values() if pod.job == name)
        template["metadata"] |= {
            "name": f"{POD}{name}-{number}",
            "uid": f"uid-{POD}{name}-{number}",
            "namespace": NAMESPACE,
            "creationTimestamp": now(),
        }
        template["metadata"]["labels"] |= {"job-name": name}
        if index is not None:
            template["metadata"].setdefault("annotations", {})[INDEX] = str(index)
            template["spec"]["containers"][0]["env"].append({"name": "JOB_COMPLETION_INDEX", "value": str(index)})
        template["status"] = {"phase": "Pending", "conditions": []}
        pod = Pod(template)
        self.pods[pod.name] = pod
        fate = self.fate(pod)
        if fate == "no node" or not any(self._fits(pod, node) for node in self.nodes):
            self._condition(pod, "PodScheduled", "False", "Unschedulable", "0/2 nodes are available")
            self._warn(pod, "FailedScheduling", "0/2 nodes are available")
            return
        self._condition(pod, "PodScheduled", "True")
        if fate == "no image":
            self._waiting(pod, "ImagePullBackOff", "Back-off pulling image", "Failed", "manifest unknown")
        elif missing := self._missing(pod, fate):
            self._waiting(pod, "CreateContainerConfigError", f"{missing} not found", "Failed", f"{missing} not found")
        else:
            self._start(pod, silent=fate == "without a word")

    @staticmethod
    def _fits(pod: Pod, node: Node) -> bool:
        spec = pod.body["spec"]
        wanted = (spec.get("nodeSelector") or {}).items() <= dict(node.labels).items()
        limits = (spec["containers"][0].get("resources") or {}).get("limits") or {}
        tolerated = {item["key"] for item in spec.get("tolerations") or ()}
        return (
            wanted
            and int(limits.get("nvidia.com/gpu", 0)) <= node.gpus
            and (not node.gpus or "nvidia.com/gpu" in tolerated)
        )

    def _missing(self, pod: Pod, fate: str) -> str:
        if fate == "no secret":
            return 'secret "transcription-secrets"'
        for source in pod.body["spec"]["containers"][0].get("envFrom") or ():
            for kind, known in (("configMapRef", self.config_maps), ("secretRef", self.secrets)):
                if kind in source and source[kind]["name"] not in known:
                    return f'{kind} "{source[kind]["name"]}"'
        return ""

    def _environment(self, pod: Pod) -> dict[str, str]:
        container = pod.body["spec"]["containers"][0]
        environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(self.folder)}
        for source in container.get("envFrom") or ():
            found = self.config_maps[source["configMapRef"]["name"]] if "configMapRef" in source else None
            environment |= found if found is not None else self.secrets[source["secretRef"]["name"]]
        environment |= {item["name"]: item["value"] for item in container.get("env") or () if "value" in item}
        return environment | {"HOSTNAME": pod.name}

    def _start(self, pod: Pod, *, silent: bool) -> None:
        pod.log = self.folder / f"{pod.name}.log"
        pod.log.touch()
        command = ["true"] if silent else pod.body["spec"]["containers"][0]["args"]
        if silent or self.is_cold(pod):
            pod.process = self._popen(command, self._environment(pod), pod.log)
        else:
            pod.process = Forked(command, self._environment(pod), pod.log)
        pod.body["status"] |= {"phase": "Running", "startTime": now()}
        self._state(pod, {"running": {"startedAt": now()}}, ready=True)
        pod.waiter = threading.Thread(target=self._wait, args=(pod, pod.process), daemon=True)
        pod.waiter.start()
        deadline = pod.body["spec"].get("activeDeadlineSeconds")
        if deadline:
            timer = threading.Timer(deadline, self.end, (pod, "DeadlineExceeded", signal.SIGTERM))
            timer.daemon = True
            timer.start()

    @staticmethod
    def _popen(command: list[str], environment: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
        with log.open("wb") as file:
            return subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )

    def _wait(self, pod: Pod, process: "subprocess.Popen[bytes] | Forked") -> None:
        code = process.wait()
        code = 128 - code if code < 0 else code
        with self.lock:
            reason = pod.body["status"].pop("standinReason", "")
            ended = "OOMKilled" if reason == "OOMKilled" else "Completed" if code == 0 else "Error"
            if reason and reason != "OOMKilled":
                pod.body["status"] |= {"reason": reason, "message": f"told by the stand-in: {reason}"}
            failed = bool(code or reason)
            pod.body["status"]["phase"] = "Failed" if failed else "Succeeded"
            self._state(pod, {"terminated": {"exitCode": code, "reason": ended, "finishedAt": now()}})
            self._job_ended(pod, failed=failed)

    def _job_ended(self, pod: Pod, *, failed: bool) -> None:
        job = self.jobs.get(pod.job)
        if job is None:
            return
        if pod.index >= 0:
            self._index_ended(pod, job, failed=failed)
            return
        status = job["status"]
        if not failed:
            job["status"] = {"startTime": status["startTime"], "succeeded": 1, "completionTime": now()}
            return
        status["failed"] = status.get("failed", 0) + 1
        if status["failed"] <= job["spec"].get("backoffLimit", 6):
            self._add_pod(job)
        else:
            status.pop("active", None)

    def end(self, pod: Pod, reason: str, how: int = signal.SIGKILL) -> None:
        """End the pod as its node would, for a reason: OOMKilled, Evicted, DeadlineExceeded, or none."""
        with self.lock:
            if pod.is_running:
                pod.body["status"]["standinReason"] = reason
                if reason in DISRUPTIONS:
                    self._condition(pod, "DisruptionTarget", "True", DISRUPTIONS[reason], reason)
                pod.kill(how)

    def lose(self, pod: Pod) -> None:
        """Lose the node: remove the pod's process and the pod itself, and fail its Job."""
        with self.lock:
            pod.kill()
            self.pods.pop(pod.name, None)
            job = self.jobs[pod.job]
            job["status"] = {"startTime": job["status"]["startTime"], "failed": 1}

    @staticmethod
    def _stop(pod: Pod) -> None:
        def kill() -> None:
            if pod.is_running:
                pod.kill()

        if pod.is_running:
            pod.kill(signal.SIGTERM)
            threading.Timer(GRACE_S, kill).start()

    @staticmethod
    def _condition(pod: Pod, kind: str, status: str, reason: str = "", message: str = "") -> None:
        pod.body["status"]["conditions"].append(
            {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now()}
        )

    @staticmethod
    def _state(pod: Pod, state: Json, *, ready: bool = False) -> None:
        container = pod.body["spec"]["containers"][0]
        pod.body["status"]["containerStatuses"] = [
            {
                "name": container["name"],
                "image": container["image"],
                "imageID": "",
                "ready": ready,
                "restartCount": 0,
                "state": state,
            }
        ]

    def _waiting(self, pod: Pod, reason: str, message: str, event: str, said: str) -> None:
        self._state(pod, {"waiting": {"reason": reason, "message": message}})
        self._warn(pod, event, said)

    def _warn(self, pod: Pod, reason: str, message: str) -> None:
        self.events.append(
            {
                "metadata": {"name": f"event-{len(self.events)}", "namespace": NAMESPACE},
                "involvedObject": {"kind": "Pod", "name": pod.name, "namespace": NAMESPACE},
                "type": "Warning",
                "reason": reason,
                "message": message,
                "count": 1,
            }
        )

    # --- queries of tests

    def of_run(self, run_id: str, step: str) -> list[Pod]:
        """Return the existing pods of this step, in the order of their creation."""
        with self.lock:
            return [pod for pod in self.pods.values() if pod.labels["dagster/run-id"] == run_id and pod.step == step]

    def close(self) -> None:
        """Kill all processes and wait for them."""
        with self.lock:
            running = [pod for pod in self.pods.values() if pod.is_running and pod.process]
            for pod in running:
                pod.kill()
        for pod in running:
            assert pod.waiter
            pod.waiter.join()


def _field(query: Mapping[str, list[str]], name: str) -> str:
    """Return the value of a selector `…=value`."""
    return query.get(name, ["="])[0].rpartition("=")[2]


def _selected(query: Mapping[str, list[str]], metadata: Json) -> bool:
    """Return whether the label selector `name=value` matches an object."""
    name, _, value = query["labelSelector"][0].partition("=")
    return bool(metadata.get("labels", {}).get(name) == value)


def _indexes(status: Json, which: str) -> set[int]:
    return {int(part) for part in status.get(which, "").split(",") if part}


class Handler(BaseHTTPRequestHandler):
    """Request handler for the API paths that dagster-k8s uses."""

    cluster: Cluster
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Suppress the log, which would be mixed with a test's output."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path.partition("?")[0] == f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
        self._answer(201, self.cluster.create_job(body))

    def do_DELETE(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(200, self.cluster.delete_job(urlsplit(self.path).path.rsplit("/", 1)[1]))

    def do_GET(self) -> None:
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        cluster = self.cluster
        with cluster.lock:
            if job := re.fullmatch(r".*/jobs/([^/]+)(/status)?", path):
                self._one(cluster.jobs.get(job[1]))
            elif path.endswith("/jobs"):
                wanted = _field(query, "fieldSelector")
                if wanted:
                    self._list([body for name, body in cluster.jobs.items() if name == wanted])
                else:
                    self._list([body for body in cluster.jobs.values() if _selected(query, body["metadata"])])
            elif log := re.fullmatch(r".*/pods/([^/]+)/log", path):
                file = cluster.pods[log[1]].log
                self._answer(200, file.read_bytes() if file else b"")
            elif pod := re.fullmatch(r".*/pods/([^/]+)", path):
                found = cluster.pods.get(pod[1])
                self._one(found.body if found else None)
            elif path.endswith("/pods"):
                job_name, name = _field(query, "labelSelector"), _field(query, "fieldSelector")
                if MANIFEST_LABEL in query.get("labelSelector", [""])[0]:
                    self._list([pod.body for pod in cluster.pods.values() if _selected(query, pod.body["metadata"])])
                else:
                    self._list([pod.body for pod in cluster.pods.values() if {job_name, name} & {pod.job, pod.name}])
            elif path.endswith("/events"):
                wanted = _field(query, "fieldSelector")
                self._list([event for event in cluster.events if event["involvedObject"]["name"] == wanted])
            else:
                self._answer(404, {"kind": "Status", "status": "Failure", "message": f"the stand-in has no {path}"})

    def _one(self, body: Json | None) -> None:
        if body is None:
            self._answer(404, {"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404})
        else:
            self._answer(200, body)

    def _list(self, items: list[Json]) -> None:
        self._answer(200, {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items})

    def _answer(self, code: int, body: Json | bytes) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serve(cluster: Cluster) -> Iterator[Path]:
    """Serve the cluster and yield the path of its kubeconfig; at the end, kill all its processes."""
    handler = type("ClusterHandler", (Handler,), {"cluster": cluster})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    with answering(server) as address:
        try:
            yield write_kubeconfig(cluster.folder / "kubeconfig.json", address)
        finally:
            cluster.close()
