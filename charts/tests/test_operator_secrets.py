"""The policy that confines what the operator may write outside its own namespace."""

import unittest

from cluster import ClusterTest, create, must, run


class OperatorSecrets(ClusterTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.namespace(cls.id_ + "-shop")
        cls.shop = cls.id_ + "-shop"
        cls.operator = f"--as=system:serviceaccount:{cls.id_}:pinnace-operator-{cls.id_}"
        must("kubectl", "-n", cls.shop, "create", "rolebinding", "operator", "--clusterrole=admin",
             "--user=" + cls.operator.removeprefix("--as="))
        for name, labelled in [("istio.held", True), ("istio.users", False), ("users", True)]:
            cls.make(cls.secret(name, labelled=labelled))
        cls.admission_policy("operator-secrets.yaml")
        cls.until_refused(lambda: create(cls.secret("other"), cls.operator), "ValidatingAdmissionPolicy")

    @classmethod
    def secret(cls, name, kind="kubernetes.io/tls", labelled=True):
        labels = {"app.kubernetes.io/managed-by": "pinnace"} if labelled else {}
        return {
            "apiVersion": "v1", "kind": "Secret", "type": kind, "stringData": {"tls.crt": "", "tls.key": ""},
            "metadata": {"name": name, "namespace": cls.shop, "labels": labels},
        }

    def test_creates_only_certificates_of_workloads(self):
        for word, secret in [
            (None, self.secret("istio.bob")),
            ("named istio.<service account>", self.secret("other")),
            ("of type kubernetes.io/tls", self.secret("istio.bob", "Opaque")),
            ("managed-by=pinnace", self.secret("istio.bob", labelled=False)),
        ]:
            taken, said = create(secret, self.operator)
            with self.subTest(expected=word):
                self.assertEqual(taken, word is None, said)
                self.assertIn(word or "", said)

    def test_changes_and_deletes_only_its_own(self):
        mark = '{"metadata":{"labels":{"app.kubernetes.io/managed-by":"pinnace","x":"y"}}}'
        for name, own in [("istio.held", True), ("istio.users", False), ("users", False)]:
            for command in (["patch", "secret", name, "-p", mark], ["delete", "secret", name]):
                taken, said = run("kubectl", "-n", self.shop, *command, "--dry-run=server", self.operator)
                with self.subTest(command=command[0], secret=name):
                    self.assertEqual(taken, own, said)

    def test_leaves_everybody_else_alone(self):
        taken, said = create(self.secret("anything", "Opaque", labelled=False))
        self.assertTrue(taken, said)


if __name__ == "__main__":
    unittest.main()
