"""The pod: which container holds which secret, and what each may do."""

import unittest

from render import CI, objects, pod, refused

SECRETS = {"slurm-key": "sackd", "host-keys": "gateway"}
# Of these the directory has what it is set up with, and no other.
DIRECTORY = {
    "people-file": {"people"},
    "active-directory": {"bind-password", "directory-client", "offline-secret"},
}
SOCKET_FOLDERS = {"run-slurm": "sackd", "run-nscd": "directoryd", "run-directoryd": "directoryd"}


def containers(spec):
    return {c["name"]: c for c in spec["containers"]}


def mounts(spec, volume):
    return {c["name"]: m for c in spec["containers"] for m in c["volumeMounts"] if m["name"] == volume}


class Deployment(unittest.TestCase):
    def each(self):
        for ci in CI:
            with self.subTest(ci=ci.stem):
                yield pod(ci.stem)["spec"]

    def test_each_secret_is_mounted_in_exactly_one_container(self):
        for ci in CI:
            spec = pod(ci.stem)["spec"]
            self.assertNotIn("initContainers", spec)
            owners = SECRETS | dict.fromkeys(DIRECTORY.get(ci.stem, {"bind-password"}), "directoryd")
            secrets = {v["name"] for v in spec["volumes"] if "secret" in v}
            self.assertEqual(secrets, set(owners), ci.stem)
            for volume, owner in owners.items():
                found = mounts(spec, volume)
                self.assertEqual(list(found), [owner])
                self.assertTrue(found[owner]["readOnly"])

    def test_people_without_hashes_may_lie_in_a_config_map(self):
        spec = pod("people-file", 'directory.file={"secret":"","configMap":"people","key":"people.toml"}')["spec"]
        self.assertEqual(list(mounts(spec, "people")), ["directoryd"])
        # Readable for everybody: directoryd refuses hashes in such a file.
        self.assertIn({"name": "people", "configMap": {"name": "people"}}, spec["volumes"])

    def test_secret_files_are_closed_to_others(self):
        for spec in self.each():
            for volume in spec["volumes"]:
                if "secret" in volume:
                    self.assertEqual(volume["secret"]["defaultMode"] & 0o007, 0)
                    self.assertIs(volume["secret"]["optional"], False)

    def test_no_secret_reaches_a_container_by_its_environment(self):
        for spec in self.each():
            for container in spec["containers"]:
                self.assertNotIn("envFrom", container)
                self.assertTrue(all("valueFrom" not in e for e in container["env"]))

    def test_only_the_owner_of_a_socket_folder_can_write_to_it(self):
        for spec in self.each():
            for volume, owner in SOCKET_FOLDERS.items():
                for name, mount in mounts(spec, f"release-{volume}").items():
                    self.assertEqual(mount.get("readOnly", False), name != owner, f"{volume} in {name}")

    def test_signer_and_directory_have_no_rights(self):
        for spec in self.each():
            for name, uid in (("sackd", 401), ("directoryd", 403)):
                context = containers(spec)[name]["securityContext"]
                self.assertEqual(context["runAsUser"], uid)
                self.assertTrue(context["runAsNonRoot"])
                self.assertEqual(context["capabilities"], {"drop": ["ALL"]})

    def test_all_containers_have_a_read_only_root_and_gain_nothing(self):
        for spec in self.each():
            self.assertEqual(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault")
            for container in spec["containers"]:
                context = container["securityContext"]
                self.assertTrue(context["readOnlyRootFilesystem"])
                self.assertIs(context["allowPrivilegeEscalation"], False)
                self.assertEqual(context["capabilities"]["drop"], ["ALL"])
                self.assertNotIn("privileged", context)

    def test_capabilities_of_the_gateway_are_those_with_a_reason(self):
        for spec in self.each():
            self.assertEqual(
                containers(spec)["gateway"]["securityContext"]["capabilities"]["add"],
                ["SETUID", "SETGID", "CHOWN", "KILL", "SYS_CHROOT"],
            )

    def test_what_views_of_their_own_cost_is_paid_where_they_are_wanted(self):
        def gateway(*sets):
            spec = pod("lab", *sets)["spec"]
            return spec, containers(spec)["gateway"]

        plain, container = gateway()
        self.assertNotIn("appArmorProfile", container["securityContext"])
        self.assertFalse(mounts(plain, "release-private-tmp"))
        for value in ("privateTmp", "hideProcesses"):
            spec, container = gateway(f"gateway.{value}=true")
            context = container["securityContext"]
            self.assertEqual(context["capabilities"]["add"][-1], "SYS_ADMIN")
            self.assertEqual(context["appArmorProfile"], {"type": "Unconfined"})
            self.assertIs(context["allowPrivilegeEscalation"], False)
            self.assertEqual(list(mounts(spec, "release-private-tmp")), ["gateway"] * (value == "privateTmp"))
        folder = mounts(gateway("gateway.privateTmp=true")[0], "release-private-tmp")["gateway"]["mountPath"]
        command = gateway("gateway.privateTmp=true")[1]["command"][2]
        # The gateway makes its folder in this one, which must not be everybody's.
        self.assertIn(f"chmod 0755 {folder} && exec", command)

    def test_processes_are_shared_where_that_is_wanted(self):
        self.assertIs(pod("lab", "shareProcessNamespace=true")["spec"]["shareProcessNamespace"], True)

    def test_no_token_no_service_links_no_fs_group_no_host_namespaces(self):
        for spec in self.each():
            self.assertIs(spec["automountServiceAccountToken"], False)
            self.assertIs(spec["enableServiceLinks"], False)
            self.assertNotIn("fsGroup", spec["securityContext"])
            for key in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"):
                self.assertNotIn(key, spec)

    def test_no_liveness_probe_ends_shells(self):
        for spec in self.each():
            for container in spec["containers"]:
                # The sidecars' restart ends no shell; one that hangs is ended.
                self.assertEqual("livenessProbe" in container, container["name"] != "gateway")
                self.assertIn("readinessProbe", container)

    def test_selector_carries_no_version(self):
        for ci in CI:
            selector = objects(ci.stem)["Deployment", "release"]["spec"]["selector"]["matchLabels"]
            self.assertEqual(selector, {"app.kubernetes.io/name": "login", "app.kubernetes.io/instance": "release"})

    def test_a_changed_setting_restarts_the_pod_and_an_unchanged_one_does_not(self):
        def checksum(*sets):
            return pod("aws-nlb-internal", *sets)["metadata"]["annotations"]["checksum/config"]

        self.assertEqual(checksum(), checksum('replicas=5'))
        self.assertNotEqual(checksum(), checksum('gateway.maxStartups=7'))

    def test_exactly_one_kind_of_home(self):
        refused(self, "lab", "home: choose one", 'home.existingClaim=""')
        refused(self, "lab", "home: choose one", "home.ephemeral=true")
        spec = pod("lab", 'home.existingClaim=""', "home.ephemeral=true")["spec"]
        self.assertIn({"name": "release-home", "emptyDir": {}}, spec["volumes"])

    def test_a_missing_secret_name_is_asked_for(self):
        refused(self, "lab", "cluster.keySecret.name: which Secret", 'cluster.keySecret.name=""')
        refused(self, "lab", "directory.bindPasswordSecret.name: which Secret", 'directory.bindPasswordSecret.name=""')
        refused(self, "lab", "hostKeys.secretName: which Secret", 'hostKeys.secretName=""')
        refused(self, "lab", "image.repository: which login image", 'image.repository=""')

    def test_extra_volumes_reach_the_gateway_alone(self):
        spec = pod("aws-nlb-internal")["spec"]
        self.assertEqual(list(mounts(spec, "fsx-scratch")), ["gateway"])

    def test_a_digest_wins_over_the_tag(self):
        image = containers(pod("aws-nlb-internet-facing", 'image.tag="1"')["spec"])["gateway"]["image"]
        self.assertTrue(image.startswith("registry.example.org/slurm-login/login@sha256:"))


if __name__ == "__main__":
    unittest.main()
