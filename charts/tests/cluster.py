"""A namespace of its own on the cluster of KUBECONFIG, and the chart's objects confined to it, so that neither a mesh
that is installed there nor anybody's pods meet what is tested."""

import concurrent.futures
import json
import os
import pathlib
import subprocess
import time
import unittest
import uuid

CHART = pathlib.Path(__file__).resolve().parent.parent / "pinnace"
LABEL = "chart-test"
BIN = pathlib.Path(os.environ.get("PINNACE_CACHE", pathlib.Path.home() / ".cache/pinnace")) / "bin"
os.environ["PATH"] = f"{BIN}:{os.environ['PATH']}"


def run(*command, stdin=None):
    """Runs a command; gives whether it succeeded, and what it said."""
    done = subprocess.run(command, input=stdin, text=True, capture_output=True, timeout=120)
    return done.returncode == 0, done.stdout + done.stderr


def must(*command, stdin=None):
    done = subprocess.run(command, input=stdin, text=True, capture_output=True, timeout=120)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


def at_once(function, items):
    """Calls the function on each item, eight at a time, and gives the results in order."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return list(pool.map(function, items))


@unittest.skipUnless(os.environ.get("KUBECONFIG"), "needs a cluster: KUBECONFIG is not set")
class ClusterTest(unittest.TestCase):
    """Has a name of its own in `self.id_`, and removes what it made."""

    @classmethod
    def setUpClass(cls):
        cls.id_ = f"chart-{uuid.uuid4().hex[:8]}"
        cls.made = []

    @classmethod
    def tearDownClass(cls):
        # Webhooks and policies first: without them the namespaces' contents go unhindered.
        for kind, name in reversed(cls.made):
            run("kubectl", "delete", kind, name, "--ignore-not-found", "--wait=false")

    @classmethod
    def make(cls, document):
        kind, name = document["kind"], document["metadata"]["name"]
        if "namespace" not in document["metadata"]:
            cls.made.append((kind, name))
        must("kubectl", "apply", "--server-side", "-f", "-", stdin=json.dumps(document))

    @classmethod
    def namespace(cls, name, labels=None):
        metadata = {"name": name, "labels": {LABEL: cls.id_, **(labels or {})}}
        cls.make({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        # A pod is refused until the namespace's own service account is there.
        for _ in range(100):
            if run("kubectl", "-n", name, "get", "serviceaccount", "default")[0]:
                return
            time.sleep(0.1)
        raise RuntimeError(f"namespace {name} has no service account")

    @classmethod
    def templates(cls, *files, settings=()):
        """The chart's objects of these template files, as installed in a namespace with the test's name."""
        shown = [part for file in files for part in ("-s", f"templates/{file}")]
        sets = [part for setting in settings for part in ("--set", setting)]
        command = ["helm", "template", "pinnace", str(CHART), "-n", cls.id_, "--kube-version", "1.36.0"]
        text = must(*command, *shown, *sets)
        converted = must("kubectl", "create", "--dry-run=client", "--validate=false", "-o", "json", "-f", "-", stdin=text)
        decoder, documents = json.JSONDecoder(), []
        while converted.strip():
            document, end = decoder.raw_decode(converted.lstrip())
            converted = converted.lstrip()[end:]
            documents += document.get("items", [document])
        return documents

    @classmethod
    def admission_policy(cls, file):
        """Installs one of the policies under a name of the test's own, for the test's namespaces alone."""
        for document in cls.templates(f"admission/{file}", settings=[f"revision={cls.id_}"]):
            if document["kind"].endswith("Binding"):
                document["spec"]["matchResources"] = {"namespaceSelector": {"matchLabels": {LABEL: cls.id_}}}
            cls.make(document)

    @classmethod
    def until_refused(cls, attempt, word):
        """The API server learns of a new policy or webhook after a moment: tries until it does."""
        for _ in range(150):
            taken, said = attempt()
            if not taken and word in said:
                return
            time.sleep(0.2)
        raise RuntimeError(f"{word} has not come into force: {said}")


def create(document, *flags):
    """What the API server would say to a new object."""
    return run("kubectl", "create", "--dry-run=server", *flags, "-f", "-", stdin=json.dumps(document))


def taken_of(documents):
    """Which of many new objects the API server would take, and what it said of the others, in one call."""
    for number, document in enumerate(documents):
        document["metadata"]["name"] = f"p-{number}"
    many = {"apiVersion": "v1", "kind": "List", "items": documents}
    done = subprocess.run(["kubectl", "create", "--dry-run=server", "-o", "name", "-f", "-"],
                          input=json.dumps(many), text=True, capture_output=True, timeout=300)
    names = set(done.stdout.split())
    said = done.stderr.splitlines()
    if len(names) + len(said) != len(documents):
        raise RuntimeError(f"{len(documents)} objects, {len(names)} taken, but {len(said)} refusals: {done.stderr}")
    return [f"{document['kind'].lower()}/{document['metadata']['name']}" in names for document in documents], said


def pod(namespace, spec=None, name="p", **metadata):
    """A pod with one container `app`, and what `spec` adds or replaces."""
    whole = {"containers": [container("app")], "terminationGracePeriodSeconds": 0, **(spec or {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, **metadata}, "spec": whole}


def container(name, **fields):
    # Never pulled: nothing here asks whether it runs.
    return {"name": name, "image": "localhost/pinnace/none:none", "imagePullPolicy": "Never", **fields}
