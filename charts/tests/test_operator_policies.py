"""The policy that confines which PeerAuthentications the operator may write."""

import json
import unittest

from cluster import ClusterTest, create, must, run

NAME = "pinnace-strict-when-ready"
DEFINITION = "peerauthentications.security.istio.io"


class OperatorPolicies(ClusterTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.define()
        cls.shop = cls.id_ + "-shop"
        cls.namespace(cls.shop)
        cls.operator = f"--as=system:serviceaccount:{cls.id_}:pinnace-operator-{cls.id_}"
        must("kubectl", "-n", cls.shop, "create", "role", "policies", "--verb=get,create,patch,delete",
             "--resource=peerauthentications.security.istio.io")
        must("kubectl", "-n", cls.shop, "create", "rolebinding", "policies", "--role=policies",
             "--user=" + cls.operator.removeprefix("--as="))
        cls.make(cls.policy("users", labelled=False))
        cls.admission_policy("operator-policies.yaml")
        cls.until_refused(lambda: create(cls.policy("other"), cls.operator), "ValidatingAdmissionPolicy")

    @classmethod
    def define(cls):
        """Has the API server know PeerAuthentication, where no mesh has done so. It is gone before one is installed, since
        helm takes over nothing that it did not make."""
        if run("kubectl", "get", "crd", DEFINITION)[0]:
            return
        documents = cls.templates("crds/crds.yaml")
        definition = next(document for document in documents if document["metadata"]["name"] == DEFINITION)
        cls.addClassCleanup(must, "kubectl", "delete", "crd", DEFINITION)
        must("kubectl", "apply", "--server-side", "-f", "-", stdin=json.dumps(definition))
        must("kubectl", "wait", "--for=condition=Established", "--timeout=30s", f"crd/{DEFINITION}")

    @classmethod
    def policy(cls, name, mode="UNSET", labelled=True, **more):
        labels = {"app.kubernetes.io/managed-by": "pinnace"} if labelled else {}
        return {
            "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "spec": {"mtls": {"mode": mode}, **more},
            "metadata": {"name": name, "namespace": cls.shop, "labels": labels},
        }

    def test_makes_only_its_own(self):
        selector = {"selector": {"matchLabels": {"app": "web"}}}
        for word, policy in [
            (None, self.policy(NAME)),
            (None, self.policy(NAME, "STRICT")),
            ("named " + NAME, self.policy("other")),
            ("managed-by=pinnace", self.policy(NAME, labelled=False)),
            ("STRICT of a whole namespace", self.policy(NAME, "DISABLE")),
            ("STRICT of a whole namespace", self.policy(NAME, "STRICT", **selector)),
        ]:
            taken, said = create(policy, self.operator)
            with self.subTest(expected=word, policy=policy["spec"]):
                self.assertEqual(taken, word is None, said)
                self.assertIn(word or "", said)

    def test_changes_and_deletes_no_users(self):
        strict = '{"spec":{"mtls":{"mode":"STRICT"}}}'
        for command in (["patch", "peerauthentication", "users", "--type=merge", "-p", strict],
                        ["delete", "peerauthentication", "users"]):
            taken, said = run("kubectl", "-n", self.shop, *command, "--dry-run=server", self.operator)
            with self.subTest(command[0]):
                self.assertFalse(taken, said)
                self.assertIn("named " + NAME, said)

    def test_leaves_everybody_else_alone(self):
        taken, said = create(self.policy("anything", "DISABLE", labelled=False))
        self.assertTrue(taken, said)


if __name__ == "__main__":
    unittest.main()
