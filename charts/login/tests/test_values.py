"""Values: documented once, refused when unknown or of the wrong kind, and every ci file passes the real checkers."""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

import yaml

from readme import table
from render import CHART, CI, helm, refused, text


class Values(unittest.TestCase):
    def test_each_ci_file_passes_helm_lint(self):
        for ci in CI:
            with self.subTest(ci=ci.stem):
                code, output = helm("lint", "--strict", CHART, "--values", ci)
                self.assertEqual(code, 0, output)

    def test_each_ci_file_renders_valid_kubernetes_objects(self):
        validate = pathlib.Path(sys.executable).parent / "kubernetes-validate"
        for ci in CI:
            with self.subTest(ci=ci.stem), tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                code, output = text(ci.stem)
                self.assertEqual(code, 0, output)
                file.write(output)
                file.flush()
                done = subprocess.run([validate, "--strict", file.name], capture_output=True, text=True, check=False)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_unknown_and_wrong_values_are_refused(self):
        cases = {
            "unknown=1": "unknown",
            "gateway.lognGraceTime=\"60s\"": "lognGraceTime",
            "replicas=\"two\"": "replicas",
            "gateway.loginGraceTime=\"60\"": "loginGraceTime",
            "gateway.loginGraceTime=60": "loginGraceTime",
            "gateway.authenticationMethods=[\"gssapi\"]": "authenticationMethods",
            "gateway.match=[{\"Permit TTY\":true}]": "match",
            "gateway.cryptoPolicy=\"old\"": "cryptoPolicy",
            "directory.uris=[\"http://x\"]": "uris",
            "directory.schema=\"nis\"": "schema",
            "service.port=70000": "port",
            "service.nlb.idleTimeoutSeconds=10": "idleTimeoutSeconds",
            "service.nlb.name=\"a-name-that-is-longer-than-32-characters\"": "name",
            "service.loadBalancerSourceRanges=[\"192.0.2.1\"]": "loadBalancerSourceRanges",
            "cluster.controllers=[\"ctl\"]": "controllers",
        }
        for value, expected in cases.items():
            with self.subTest(value=value):
                refused(self, "lab", expected, value)

    def test_schema_and_values_name_the_same(self):
        schema = json.loads((CHART / "values.schema.json").read_text())
        values = yaml.safe_load((CHART / "values.yaml").read_text())

        def compare(properties, given, path):
            names = set(properties) - ({"global"} if not path else set())
            self.assertEqual(names, set(given), path)
            for key, child in given.items():
                if properties[key].get("additionalProperties") is False and isinstance(child, dict) and child:
                    if "requests" not in child:
                        compare(properties[key]["properties"], child, f"{path}.{key}")

        compare(schema["properties"], values, "")

    def test_readme_lists_every_value_as_values_yaml_explains_it(self):
        readme = (CHART / "README.md").read_text()
        listed = re.search(r"<!-- values -->\n(.*?)<!-- /values -->", readme, re.S)
        self.assertIsNotNone(listed, "README.md has no <!-- values --> section")
        self.assertEqual(listed.group(1), table(), "run charts/login/tests/readme.py")

    def test_every_value_has_a_comment(self):
        for line in table().splitlines()[2:]:
            self.assertNotIn("|  |", line)


if __name__ == "__main__":
    unittest.main()
