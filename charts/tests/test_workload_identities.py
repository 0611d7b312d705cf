"""The policy that keeps a pod from taking another service account's certificate, or its own outside the sidecar."""

import json
import time
import unittest

from cluster import ClusterTest, at_once, container, create, must, pod, run


def certificates(account):
    return {"name": "istio-certs", "secret": {"secretName": f"istio.{account}", "optional": True, "defaultMode": 0o444}}


def sidecar(**fields):
    mounts = [{"name": "istio-certs", "mountPath": "/etc/certs", "readOnly": True}]
    return container("istio-proxy", volumeMounts=mounts, **fields)


def key_of(name):
    return {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": name, "key": "tls.key"}}}


NATIVE = {"initContainers": [sidecar(restartPolicy="Always")]}
BOB = {"serviceAccountName": "bob"}
INJECTED = {**BOB, **NATIVE, "volumes": [certificates("bob")]}
HANDED = {"secretRef": {"name": "istio.bob"}}
MOUNTS = {"volumeMounts": [{"name": "istio-certs", "mountPath": "/stolen"}]}

TAKEN = {
    "a plain pod": {},
    "an injected pod": INJECTED,
    "a service account with a dot": {"serviceAccountName": "al.ice", **NATIVE, "volumes": [certificates("al.ice")]},
    "the default service account": {**NATIVE, "volumes": [certificates("default")]},
    "the old field for the account": {"serviceAccount": "bob", **NATIVE, "volumes": [certificates("bob")]},
    "a classic sidecar": {**BOB, "containers": [container("app"), sidecar()], "volumes": [certificates("bob")]},
    "somebody's own volume of that name":
        {"containers": [container("app", **MOUNTS)], "volumes": [{"name": "istio-certs", "emptyDir": {}}]},
    "another Secret, projected":
        {"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "other"}}]}}]},
    "another Secret, as a variable": {"containers": [container("app", env=[{"name": "A", "value": "b"}, key_of("other")])]},
    "another Secret, for a driver":
        {"volumes": [{"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "other"}}}]},
    # Evaluating the policy has a budget, which a large pod must not exhaust.
    "a large pod": {
        "containers": [container(f"c{i}", env=[{"name": f"A{j}", "value": "x"} for j in range(400)]) for i in range(20)],
        "volumes": [{"name": f"v{i}", "secret": {"secretName": "other"}} for i in range(400)],
    },
}

REFUSED = {
    "another account's volume": {**NATIVE, "volumes": [certificates("bob")]},
    "another account's volume beside its own":
        {**INJECTED, "volumes": [certificates("bob"), {"name": "v", "secret": {"secretName": "istio.al.ice"}}]},
    "its own under another volume's name": {**BOB, "volumes": [{"name": "v", "secret": {"secretName": "istio.bob"}}]},
    "its own mounted in the application": {**INJECTED, "containers": [container("app", **MOUNTS)]},
    "its own mounted in an init container":
        {**INJECTED, "initContainers": NATIVE["initContainers"] + [container("setup", **MOUNTS)]},
    "projected": {"volumes": [{"name": "v", "projected": {"sources": [
        {"configMap": {"name": "c"}}, {"secret": {"name": "istio.bob"}}]}}]},
    "its own, projected":
        {**BOB, "volumes": [{"name": "istio-certs", "projected": {"sources": [{"secret": {"name": "istio.bob"}}]}}]},
    "a variable": {"containers": [container("app", env=[{"name": "A", "value": "b"}, key_of("istio.bob")])]},
    "its own as a variable": {**BOB, "containers": [container("app", env=[key_of("istio.bob")])]},
    "its own as a variable of the sidecar":
        {**INJECTED, "initContainers": [sidecar(restartPolicy="Always", env=[key_of("istio.bob")])]},
    "all variables": {"containers": [container("app", envFrom=[{"configMapRef": {"name": "c"}}, HANDED])]},
    "all variables of an init container": {"initContainers": [container("setup", envFrom=[HANDED])]},
    "a pull secret": {"imagePullSecrets": [{"name": "registry"}, {"name": "istio.bob"}]},
    "csi": {"volumes": [{"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "istio.bob"}}}]},
    "flexVolume": {"volumes": [{"name": "v", "flexVolume": {"driver": "a/d", **HANDED}}]},
    "azureFile": {"volumes": [{"name": "v", "azureFile": {"shareName": "s", "secretName": "istio.bob"}}]},
    "cephfs": {"volumes": [{"name": "v", "cephfs": {"monitors": ["m"], **HANDED}}]},
    "rbd": {"volumes": [{"name": "v", "rbd": {"monitors": ["m"], "image": "i", **HANDED}}]},
    "iscsi": {"volumes": [{"name": "v", "iscsi": {
        "targetPortal": "192.0.2.1", "iqn": "iqn.2015-02.com.example:t", "lun": 0, "chapAuthSession": True, **HANDED}}]},
    "scaleIO": {"volumes": [{"name": "v", "scaleIO": {"gateway": "g", "system": "s", "volumeName": "n", **HANDED}}]},
    "storageos": {"volumes": [{"name": "v", "storageos": {"volumeName": "n", **HANDED}}]},
}


class WorkloadIdentities(ClusterTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.namespace(cls.id_)
        for account in ("bob", "al.ice"):
            must("kubectl", "-n", cls.id_, "create", "serviceaccount", account)
        old = pod(cls.id_, {"containers": [container("app", env=[key_of("istio.bob")])]}, "old", finalizers=["example.com/x"])
        for document in (old, pod(cls.id_, INJECTED, "injected")):
            must("kubectl", "create", "-f", "-", stdin=json.dumps(document))
        cls.admission_policy("workload-identities.yaml")
        cls.until_refused(lambda: create(pod(cls.id_, REFUSED["a variable"])), "ValidatingAdmissionPolicy")

    def test_pods_that_are_taken(self):
        for what, (taken, said) in zip(TAKEN, at_once(lambda spec: create(pod(self.id_, spec)), TAKEN.values())):
            with self.subTest(what):
                self.assertTrue(taken, said)

    def test_pods_that_are_refused(self):
        for what, (taken, said) in zip(REFUSED, at_once(lambda spec: create(pod(self.id_, spec)), REFUSED.values())):
            with self.subTest(what):
                self.assertFalse(taken)
                self.assertIn("ValidatingAdmissionPolicy", said)
                self.assertRegex(said, "istio\\.(bob|al\\.ice|\\*)", "the message names the Secret")

    def test_ephemeral_containers(self):
        for what, fields, expected in [
            ("plain", {}, True),
            ("a mount", MOUNTS, False),
            ("a variable", {"env": [key_of("istio.bob")]}, False),
            ("all variables", {"envFrom": [{"secretRef": {"name": "istio.al.ice"}}]}, False),
        ]:
            with self.subTest(what):
                taken, said = self.debug(fields)
                self.assertEqual(taken, expected, said)
                self.assertIn("" if expected else "ValidatingAdmissionPolicy", said)

    def debug(self, fields):
        """Adds an ephemeral container, again if the kubelet wrote to the pod in between."""
        path = f"/api/v1/namespaces/{self.id_}/pods/injected/ephemeralcontainers?dryRun=All"
        for _ in range(20):
            current = json.loads(must("kubectl", "-n", self.id_, "get", "pod", "injected", "-o", "json"))
            current["spec"]["ephemeralContainers"] = [container("debugger", **fields)]
            taken, said = run("kubectl", "replace", "--raw", path, "-f", "-", stdin=json.dumps(current))
            if "object has been modified" not in said:
                break
            time.sleep(0.2)
        return taken, said

    def test_a_pod_older_than_the_policy_can_be_labelled_and_go(self):
        for change in (["label", "pod", "old", "a=b"],
                       ["patch", "pod", "old", "--type=json", "-p", '[{"op":"remove","path":"/metadata/finalizers"}]']):
            taken, said = run("kubectl", "-n", self.id_, *change)
            self.assertTrue(taken, said)


if __name__ == "__main__":
    unittest.main()
