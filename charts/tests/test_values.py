"""What helm makes of the values, without a cluster."""

import unittest

from cluster import CHART, run


def template(*settings, version="1.36.0"):
    sets = [part for setting in settings for part in ("--set", setting)]
    return run("helm", "template", "pinnace", str(CHART), "-n", "istio-system", "--kube-version", version, *sets)


class Values(unittest.TestCase):
    def test_the_chart_is_clean(self):
        taken, said = run("helm", "lint", "--strict", str(CHART), "--kube-version", "1.36.0")
        self.assertTrue(taken, said)

    def test_bad_values_are_refused_by_name(self):
        for setting, name in [
            ("nosuch=1", "nosuch"),
            ("operator.nosuch=1", "nosuch"),
            ("revision=Not_A_Label", "/revision"),
            ("operator.replicas=0", "/operator/replicas"),
            ("workloadCertTTL=24", "/workloadCertTTL"),
            ("meshConfig.outboundTrafficPolicy.mode=SOME", "/meshConfig/outboundTrafficPolicy/mode"),
            ("proxy.logLevel=loud", "/proxy/logLevel"),
            ("proxy.statusPort=15090", "/proxy/statusPort"),
            ("proxy.readinessPeriodSeconds=0", "/proxy/readinessPeriodSeconds"),
            ("revisionTags={A b}", "/revisionTags/0"),
            ("proxy.kernelTLS=on", "/proxy/kernelTLS"),
            ("networkPolicy.metricsFrom=null", "/networkPolicy"),
            ("networkPolicy.apiServerPorts={70000}", "/networkPolicy/apiServerPorts/0"),
            ("networkPolicy.keyServerPorts={0}", "/networkPolicy/keyServerPorts/0"),
            ("jwks.blockedCIDRs={example.com}", "/jwks/blockedCIDRs/0"),
            ("jwks.refreshInterval=often", "/jwks/refreshInterval"),
            ("strictWhenReady.quiet=1d", "/strictWhenReady/quiet"),
        ]:
            with self.subTest(setting):
                taken, said = template(setting)
                self.assertFalse(taken)
                self.assertIn(name, said)

    def test_a_cluster_without_admission_policies_is_refused_unless_they_are_given_up(self):
        taken, said = template(version="1.29.0")
        self.assertFalse(taken)
        self.assertIn("admissionPolicies.enabled=false", said)
        taken, said = template("admissionPolicies.enabled=false", version="1.29.0")
        self.assertTrue(taken, said)

    def test_quantities_reach_the_injector_as_text(self):
        taken, said = template("proxy.resources.limits.cpu=2")
        self.assertTrue(taken, said)
        self.assertIn('cpu: "2"', said)

    def test_tags_select_a_revision_beside_its_name(self):
        def entries(*settings):
            taken, said = template(*settings)
            self.assertTrue(taken, said)
            return next(part for part in said.split("\n---") if "kind: MutatingWebhookConfiguration\n" in part)

        plain, tagged = entries("revision=v2"), entries("revision=v2", "revisionTags={prod,default}")
        self.assertEqual(plain.count('values: ["v2"]'), 2)
        self.assertEqual(tagged.count('values: ["v2","prod","default"]'), 2)
        for said, default in (plain, False), (tagged, True), (entries(), True):
            self.assertEqual("name: namespace.sidecar-injector.istio.io" in said, default)

    def test_the_control_planes_pods_go_where_they_are_told(self):
        for component in ("operator", "webhook"):
            taken, said = template(
                f"{component}.nodeSelector.tier=infra",
                f"{component}.priorityClassName=system-cluster-critical",
                f"{component}.tolerations[0].key=infra",
                f"{component}.affinity.nodeAffinity.marked=front",
            )
            self.assertTrue(taken, said)
            deployment = next(
                part for part in said.split("\n---") if "kind: Deployment\n" in part and f"name: pinnace-{component}\n" in part
            )
            for word in ("tier: infra", "priorityClassName: system-cluster-critical", "- key: infra", "marked: front"):
                self.assertIn(word, deployment)

    def test_the_operator_can_be_confined_to_namespaces(self):
        taken, said = template("operator.namespaces={shop,payments}")
        self.assertTrue(taken, said)
        cluster_role = next(part for part in said.split("\n---") if "kind: ClusterRole\n" in part)
        self.assertNotIn("secrets", cluster_role)
        for namespace in ("shop", "payments"):
            self.assertIn(f"name: pinnace-operator-secrets\n  namespace: {namespace}\n", said)
        self.assertIn('value: "shop,payments,istio-system"', said)

    def test_key_servers_can_be_told(self):
        def operator(*settings):
            taken, said = template(*settings)
            self.assertTrue(taken, said)
            parts = said.split("\n---")
            deployment = next(part for part in parts if "kind: Deployment\n" in part and "name: pinnace-operator\n" in part)
            return deployment, any("name: pinnace-operator-key-server-roots\n" in part for part in parts if "kind: ConfigMap" in part)

        plain, roots = operator()
        self.assertNotIn("JWKS_", plain)
        self.assertFalse(roots)
        told, roots = operator("jwks.blockedCIDRs={10.0.0.0/8,fd00::1}", "jwks.extraRootCA=pem", "jwks.refreshInterval=5m")
        self.assertIn('{name: JWKS_BLOCKED_CIDRS, value: "10.0.0.0/8,fd00::1"}', told)
        self.assertIn('{name: PILOT_JWT_PUB_KEY_REFRESH_INTERVAL, value: "5m"}', told)
        self.assertIn("configMap: {name: pinnace-operator-key-server-roots}", told)
        self.assertTrue(roots)

    def test_the_quiet_time_and_the_tags_reach_the_operator(self):
        taken, said = template("strictWhenReady.quiet=30m", "revision=v2", "revisionTags={prod,next}")
        self.assertTrue(taken, said)
        self.assertIn('{name: STRICT_WHEN_READY_QUIET, value: "30m"}', said)
        self.assertIn('{name: REVISION_TAGS, value: "prod,next"}', said)

    def test_the_operator_may_change_only_its_own_peer_authentication(self):
        taken, said = template()
        self.assertTrue(taken, said)
        parts = [" ".join(part.split()) for part in said.split("\n---")]
        role = next(part for part in parts if "kind: ClusterRole " in part and "name: pinnace-operator " in part)
        self.assertIn("resources: [peerauthentications] resourceNames: [pinnace-strict-when-ready] verbs: [patch, delete]", role)
        self.assertIn("resources: [peerauthentications] verbs: [create]", role)

    def test_network_policies_are_there_when_they_are_asked_for(self):
        taken, said = template()
        self.assertTrue(taken, said)
        self.assertNotIn("kind: NetworkPolicy", said)
        taken, said = template("networkPolicy.enabled=true", "revision=canary", "networkPolicy.apiServerPorts={8443}")
        self.assertTrue(taken, said)
        policies = {}
        for part in said.split("\n---"):
            if "kind: NetworkPolicy" in part:
                policies["webhook" if "name: pinnace-webhook-canary" in part else "operator"] = " ".join(part.split())
        self.assertEqual(set(policies), {"operator", "webhook"})
        for name, policy in policies.items():
            with self.subTest(name):
                self.assertIn(f"podSelector: matchLabels: app: pinnace-{name}-canary", policy)
                self.assertIn("policyTypes: [Ingress, Egress]", policy)
                self.assertIn("- from: - namespaceSelector: {} ports: - {protocol: TCP, port: 15014}", policy)
                self.assertIn("egress: - ports: - {protocol: TCP, port: 8443} - ports: - {protocol: UDP, port: 53}", policy)
        self.assertIn("- from: - namespaceSelector: {} ports: - {protocol: TCP, port: 15012}", policies["operator"])
        to_replicas = "- to: - podSelector: matchLabels: app: pinnace-operator-canary ports: - {protocol: TCP, port: 15012}"
        self.assertIn(to_replicas, policies["operator"])
        # The API server's calls come from addresses that no selector names.
        self.assertIn("ingress: # From anywhere: the API server calls from the host network, and no selector names that. "
                      "- ports: - {protocol: TCP, port: 15017}", policies["webhook"])
        for policy in policies.values():
            # Loopback alone serves the debug pages; nobody else is to try.
            self.assertNotIn("15013", policy)

    def test_every_resource_is_validated_and_the_operators_to_read(self):
        taken, said = template()
        self.assertTrue(taken, said)
        parts = [" ".join(part.split()) for part in said.split("\n---")]
        validator = next(part for part in parts if "kind: ValidatingWebhookConfiguration" in part)
        role = next(part for part in parts if "kind: ClusterRole " in part and "name: pinnace-operator " in part)
        for crd in sorted((CHART / "files/crds").iterdir()):
            plural, group = crd.name.removesuffix(".yaml").split(".", 1)
            with self.subTest(plural):
                # A resource has its list in the rule of its group.
                named = rf"apiGroups: \[{group}\] (apiVersions: \S+ operations: \[CREATE, UPDATE\] )?resources: \[[^]]*\b{plural}"
                self.assertRegex(validator, named + r"[\],]")
                self.assertRegex(role, named + r"[\],]")
                # Nothing is said of Sidecars.
                (self.assertNotRegex if plural == "sidecars" else self.assertRegex)(role, named + r"/status[\],]")

    def test_no_certificate_of_an_authority_is_templated(self):
        taken, said = template()
        self.assertTrue(taken, said)
        self.assertNotIn("caBundle:", said)


if __name__ == "__main__":
    unittest.main()
