"""The policy that confines which PeerAuthentications the operator may write."""

import unittest

from cluster import ClusterTest, create, must, run

NAME = "pinnace-strict-when-ready"


class OperatorPolicies(ClusterTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
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
