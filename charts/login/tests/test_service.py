"""The Service: an NLB that is right at creation, and closed unless it is told whom to let in."""

import unittest

from render import refused, service

PREFIX = "service.beta.kubernetes.io/aws-load-balancer-"


def annotation(rendered, name):
    return rendered["metadata"]["annotations"].get(PREFIX + name)


def attributes(rendered):
    return dict(a.split("=") for a in annotation(rendered, "target-group-attributes").split(","))


class Service(unittest.TestCase):
    def test_internal_by_default_with_pods_as_targets(self):
        rendered = service("aws-nlb-internal")
        self.assertEqual(rendered["spec"]["loadBalancerClass"], "service.k8s.aws/nlb")
        self.assertIs(rendered["spec"]["allocateLoadBalancerNodePorts"], False)
        self.assertEqual(rendered["spec"]["ports"][0]["targetPort"], 2222)
        self.assertEqual(annotation(rendered, "scheme"), "internal")
        self.assertEqual(annotation(rendered, "nlb-target-type"), "ip")
        self.assertEqual(annotation(rendered, "attributes"), "load_balancing.cross_zone.enabled=true")
        self.assertEqual(annotation(rendered, "listener-attributes.TCP-22"), "tcp.idle_timeout.seconds=3600")
        self.assertEqual(annotation(rendered, "subnets"), "subnet-0a1b2c3d,subnet-4e5f6a7b")
        # The class hands the Service over; the type annotation must never be added beside it.
        self.assertIsNone(annotation(rendered, "type"))

    def test_sessions_outlive_draining_and_a_failed_health_check(self):
        values = attributes(service("aws-nlb-internal"))
        self.assertEqual(values["deregistration_delay.connection_termination.enabled"], "false")
        self.assertEqual(values["target_health_state.unhealthy.connection_termination.enabled"], "false")
        self.assertEqual(values["target_health_state.unhealthy.draining_interval_seconds"], "43200")

    def test_the_client_address_travels_one_way_and_not_two(self):
        with_header = service("aws-nlb-internal")
        self.assertEqual(annotation(with_header, "proxy-protocol"), "*")
        self.assertEqual(attributes(with_header)["preserve_client_ip.enabled"], "false")
        without = service("aws-nlb-internal", "service.nlb.proxyProtocol=false")
        self.assertIsNone(annotation(without, "proxy-protocol"))
        self.assertEqual(attributes(without)["preserve_client_ip.enabled"], "true")

    def test_health_is_asked_over_http_on_a_numeric_port(self):
        rendered = service("aws-nlb-internal")
        self.assertEqual(annotation(rendered, "healthcheck-protocol"), "http")
        self.assertEqual(annotation(rendered, "healthcheck-port"), "8080")
        self.assertEqual(annotation(rendered, "healthcheck-path"), "/readyz")

    def test_internet_facing_names_who_may_connect(self):
        rendered = service("aws-nlb-internet-facing")
        self.assertEqual(annotation(rendered, "scheme"), "internet-facing")
        self.assertEqual(rendered["spec"]["loadBalancerSourceRanges"], ["192.0.2.0/24", "198.51.100.7/32"])
        refused(self, "aws-nlb-internet-facing", "needs the ranges", "service.loadBalancerSourceRanges=[]")

    def test_own_security_groups_take_the_place_of_ranges(self):
        groups = 'service.nlb.securityGroups=["sg-1"]'
        refused(self, "aws-nlb-internet-facing", "has no effect beside", groups)
        rendered = service("aws-nlb-internet-facing", groups, "service.loadBalancerSourceRanges=[]")
        self.assertEqual(annotation(rendered, "security-groups"), "sg-1")
        self.assertEqual(annotation(rendered, "manage-backend-security-group-rules"), "true")

    def test_addresses_must_fit_the_scheme(self):
        refused(self, "aws-nlb-internal", "only for an internet-facing", 'service.nlb.eipAllocations=["eipalloc-1"]')
        refused(self, "aws-nlb-internet-facing", "only for an internal", 'service.nlb.privateIPv4Addresses=["10.0.0.1"]')

    def test_further_attributes_win_over_ours_and_a_second_annotation_is_refused(self):
        self.assertEqual(attributes(service("aws-nlb-internet-facing"))["deregistration_delay.timeout_seconds"], "600")
        refused(self, "aws-nlb-internal", "is set by the chart", f'service.annotations={{"{PREFIX}scheme":"internal"}}')

    def test_other_types_carry_no_annotations_of_aws(self):
        for ci, kind in (("openldap-starttls", "NodePort"), ("lab", "ClusterIP")):
            rendered = service(ci)
            self.assertEqual(rendered["spec"]["type"], kind)
            self.assertNotIn("annotations", rendered["metadata"])
            self.assertNotIn("loadBalancerClass", rendered["spec"])


if __name__ == "__main__":
    unittest.main()
