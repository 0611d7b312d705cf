"""Which pods the API server hands to the webhook: the entries against Istio's rules, for every combination of labels
and annotations. Nothing serves the webhook here, so a pod that an entry selects is refused with the entry's name."""

import itertools
import unittest

from cluster import LABEL, ClusterTest, create, pod, taken_of

INJECT, REV, INJECTION = "sidecar.istio.io/inject", "istio.io/rev", "istio-injection"


def selected(revision, by_default, namespace, labels, annotations, host_network):
    """Istio's rules: the rows of its webhook, then label before annotation."""
    if host_network:
        return False
    injection, rev = namespace.get(INJECTION), namespace.get(REV)
    asked, pod_rev = labels.get(INJECT), labels.get(REV)
    silent = injection is None and rev is None
    rows = [
        rev == revision and injection is None and asked != "false",
        silent and pod_rev == revision and asked != "false",
    ]
    if revision == "default":
        rows += [
            injection == "enabled" and asked != "false",
            silent and asked == "true" and pod_rev is None,
            silent and asked is None and pod_rev is None and (by_default or annotations.get(INJECT) == "true"),
        ]
    return any(rows) and (asked is not None or annotations.get(INJECT) != "false")


class Injector(ClusterTest):
    revision, settings, by_default = "default", [], False

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.namespaces = {
            "none": {},
            "enabled": {INJECTION: "enabled"},
            "disabled": {INJECTION: "disabled"},
            "rev": {REV: cls.revision},
            "other": {REV: "other"},
            "both": {INJECTION: "enabled", REV: "other"},
            "off": {INJECTION: "disabled", REV: cls.revision},
        }
        for name, labels in cls.namespaces.items():
            cls.namespace(f"{cls.id_}-{name}", labels)
        (injector,) = cls.templates("webhook/injector.yaml", settings=cls.settings)
        # Configurations are called in the order of their names: before that of a mesh that is installed.
        injector["metadata"]["name"] = f"a-{cls.id_}"
        for entry in injector["webhooks"]:
            entry["namespaceSelector"]["matchExpressions"].append({"key": LABEL, "operator": "In", "values": [cls.id_]})
            entry["timeoutSeconds"] = 1
        cls.make(injector)
        wanted = pod(f"{cls.id_}-rev")
        cls.until_refused(lambda: create(wanted), "failed calling webhook")

    def test_every_combination(self):
        cases = []
        for namespace, asked, rev, annotation, host in itertools.product(
            self.namespaces, [None, "true", "false"], [None, self.revision, "other"],
            [None, "true", "false", "maybe"], [False, True],
        ):
            if host and (rev or annotation not in (None, "true")):
                continue
            labels = {INJECT: asked, REV: rev}
            cases.append((namespace, {key: value for key, value in labels.items() if value},
                          {INJECT: annotation} if annotation else {}, host))

        def document(case):
            namespace, labels, annotations, host = case
            spec = {"hostNetwork": True} if host else {}
            return pod(f"{self.id_}-{namespace}", spec, labels=labels, annotations=annotations)

        taken, refusals = taken_of([document(case) for case in cases])
        for said in refusals:
            self.assertRegex(said, f'failed calling webhook "[^"]+".*{self.id_}')
        for case, started in zip(cases, taken):
            namespace, labels, annotations, host = case
            expected = selected(self.revision, self.by_default, self.namespaces[namespace], labels, annotations, host)
            with self.subTest(namespace=namespace, labels=labels, annotations=annotations, host=host):
                self.assertEqual(not started, expected)


class InjectorOfARevision(Injector):
    revision, settings = "canary", ["revision=canary"]


class InjectorByDefault(Injector):
    settings, by_default = ["injection.enableNamespacesByDefault=true"], True


if __name__ == "__main__":
    unittest.main()
