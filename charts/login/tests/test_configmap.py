"""The daemons' files: valid TOML with the given values and no secret in it."""

import re
import tomllib
import unittest

from render import CI, objects, refused

# What the directory's file names by path.
PATHS = ("bind-password-file", "ca-file", "client-certificate", "client-key", "path", "secret-file")


def config(ci, daemon, *sets):
    file = {"gateway": "login-gateway.toml", "sackd": "sackd-shim.toml", "directoryd": "directoryd.toml"}[daemon]
    return tomllib.loads(objects(ci, *sets)["ConfigMap", f"release-{daemon}"]["data"][file])


class ConfigMap(unittest.TestCase):
    def test_each_file_is_toml_in_kebab_case(self):
        for ci in CI:
            for daemon in ("gateway", "sackd", "directoryd"):
                with self.subTest(ci=ci.stem, daemon=daemon):
                    keys = config(ci.stem, daemon)
                    for table in [keys, *[v for v in keys.values() if isinstance(v, dict)]]:
                        for key in table:
                            self.assertRegex(key, r"^[a-z0-9-]+$")

    def test_secrets_are_paths_below_their_mounts(self):
        for ci in CI:
            files = objects(ci.stem)
            mounted = {m["mountPath"] for c in files["Deployment", "release"]["spec"]["template"]["spec"]["containers"]
                       for m in c["volumeMounts"]}
            directory = config(ci.stem, "directoryd")
            tables = [directory.get(table, {}) for table in ("ldap", "file", "offline-passwords")]
            paths = config(ci.stem, "gateway")["host-keys"] + [
                config(ci.stem, "sackd")["key-file"],
                *[t[key] for t in tables for key in PATHS if key in t],
            ]
            for path in paths:
                self.assertIn(path.rpartition("/")[0], mounted)

    def test_values_with_quotes_stay_whole(self):
        self.assertEqual(config("openldap-starttls", "directoryd")["ldap"]["bind-dn"],
                         'uid=login,ou="machines",dc=example,dc=org')

    def test_proxy_protocol_follows_the_load_balancer(self):
        self.assertEqual(config("aws-nlb-internal", "gateway")["proxy-protocol"],
                         {"from": ["10.0.1.0/24", "10.0.2.0/24"], "required": True})
        self.assertNotIn("proxy-protocol", config("lab", "gateway"))
        refused(self, "aws-nlb-internal", "proxyProtocol.from: name the load balancer's subnets", "proxyProtocol.from=[]")
        relaxed = config("aws-nlb-internal", "gateway", "proxyProtocol.required=false")["proxy-protocol"]
        self.assertIs(relaxed["required"], False)

    def test_sources_are_told_apart_where_they_can_be(self):
        def door(ci, *sets):
            keys = config(ci, "gateway", *sets)
            return keys["penalties"], keys.get("per-source-max-startups")

        self.assertEqual(door("aws-nlb-internal"), ({"enabled": True}, None))
        self.assertEqual(door("lab"), ({"enabled": False}, 0))
        sets = ["gateway.penalties=false", "gateway.perSourceMaxStartups=5"]
        self.assertEqual(door("aws-nlb-internal", *sets), ({"enabled": False}, 5))
        sets = ["gateway.penalties=true", "gateway.perSourceMaxStartups=0"]
        self.assertEqual(door("lab", *sets), ({"enabled": True}, 0))
        sets = ['gateway.penaltyTimes={"auth-fail":"10s","max":"1h"}']
        self.assertEqual(door("aws-nlb-internal", *sets)[0], {"enabled": True, "auth-fail": "10s", "max": "1h"})
        refused(self, "lab", "invalid propertyName 'lunch'", 'gateway.penaltyTimes={"lunch":"1h"}')

    def test_texts_for_people_lie_beside_the_configuration(self):
        plain = objects("lab")["ConfigMap", "release-gateway"]["data"]
        self.assertEqual(list(plain), ["login-gateway.toml"])
        self.assertNotIn("banner", config("lab", "gateway"))
        self.assertEqual(config("lab", "gateway")["motd-command"], "/usr/libexec/slurm-login/motd-slurm")
        sets = ['gateway.banner="a \\"b\\"\\n"', 'gateway.motd="hello"', 'gateway.motdCommand=""']
        data = objects("lab", *sets)["ConfigMap", "release-gateway"]["data"]
        self.assertEqual((data["banner"], data["motd"]), ('a "b"\n', "hello"))
        keys = config("lab", "gateway", *sets)
        self.assertEqual((keys["banner"], keys["motd-command"]), ("/etc/login-gateway/banner", ""))
        self.assertEqual(keys["motd-files"], ["/etc/login-gateway/motd"])

    def test_policy_of_logins(self):
        keys = config("openldap-starttls", "gateway")
        self.assertEqual(keys["authentication-methods"], ["publickey,keyboard-interactive"])
        self.assertEqual(keys["trusted-user-ca-keys"], ["/etc/login-gateway-ca/user_ca.pub"])
        self.assertEqual(keys["match"], [{
            "user": ["svc-*"], "source": ["192.0.2.0/24"], "authentication-methods": ["publickey"],
            "permit-tty": False, "max-sessions": 4, "set-env": {"ROBOT": "yes"},
        }])
        blocks = 'gateway.match=[{"user":["a"],"set-env":{"A":"x \\"y\\"","B-C":"<&>"}},{"pool":["p"],"permit-tty":true}]'
        keys = config("lab", "gateway", blocks)["match"]
        self.assertEqual(keys[0]["set-env"], {"A": 'x "y"', "B-C": "<&>"})
        self.assertEqual(len(keys), 2)
        self.assertNotIn("match", config("aws-nlb-internal", "gateway"))
        self.assertNotIn("trusted-user-ca-keys", config("lab", "gateway"))

    def test_further_keys_stand_above_all_tables(self):
        sets = ['gateway.settings={"recordings":"/r","early-drop":{"start":10,"full":90},"login-records":false}']
        keys = config("openldap-starttls", "gateway", *sets)
        self.assertEqual((keys["recordings"], keys["login-records"]), ("/r", False))
        self.assertEqual(keys["early-drop"], {"start": 10, "full": 90})
        for key in config("openldap-starttls", "gateway", "gateway.privateTmp=true", "gateway.hideProcesses=true"):
            refused(self, "lab", "the chart sets it by a value of its own", f'gateway.settings={{"{key}":1}}')

    def test_what_is_left_out_is_left_to_the_daemon(self):
        ldap = config("aws-nlb-internal", "directoryd")["ldap"]
        for key in ("ca-file", "user-base", "group-base"):
            self.assertNotIn(key, ldap)
        self.assertNotIn("cluster", config("aws-nlb-internal", "sackd"))

    def test_an_empty_place_is_asked_for(self):
        refused(self, "lab", "cluster.controllers: where", "cluster.controllers=[]")
        refused(self, "lab", "directory.uris: where", "directory.uris=[]")
        refused(self, "lab", "directory.base: under which", 'directory.base=""')
        refused(self, "lab", "directory.bindDN: who", 'directory.bindDN=""')

    def test_people_come_from_a_file_in_place_of_a_server(self):
        keys = config("people-file", "directoryd")
        self.assertEqual(keys["file"], {"path": "/etc/directoryd-people/people.toml", "home-template": "/home/users/%u"})
        self.assertNotIn("ldap", keys)
        self.assertEqual(keys["access"]["allow-groups"], ["hpc"])
        ldif = config("people-file", "directoryd", 'directory.file={"secret":"","configMap":"people","key":"all.ldif"}')
        self.assertEqual(ldif["file"]["path"], "/etc/directoryd-people/all.ldif")
        refused(self, "people-file", "either secret or configMap", 'directory.file.configMap="people"')
        refused(self, "people-file", "either uris or file", 'directory.uris=["ldaps://x"]')
        refused(self, "people-file", "directory.ldap: there is no server", 'directory.ldap={"on-demand":true}')
        refused(self, "people-file", "a file is always there", 'directory.offlinePasswords.secretName="s"')

    def test_what_directoryd_can_the_chart_can_say(self):
        keys = config("active-directory", "directoryd")
        ldap = keys["ldap"]
        self.assertEqual((ldap["on-demand"], ldap["most-entries"]), (True, 50000))
        self.assertEqual(ldap["id-map"], {"min": 200000, "max": 2000200000, "size": 200000})
        self.assertEqual((ldap["home-template"], ldap["default-shell"]), ("/home/corp/%u", "/bin/bash"))
        self.assertEqual(keys["password"], {"user-failures": 3})
        self.assertEqual(keys["offline-passwords"], {"secret-file": "/etc/directoryd-offline/secret", "valid-for": "2d"})
        self.assertEqual((keys["access"]["allow-users"], keys["access"]["host"]), (["alice"], "login"))
        self.assertNotIn("offline-passwords", config("lab", "directoryd"))
        # A key that a value stands for is not given twice, and what there is not is refused before a pod starts.
        refused(self, "lab", "invalid propertyName 'bind-dn'", 'directory.ldap={"bind-dn":"cn=x"}')
        refused(self, "lab", "invalid propertyName 'colour'", 'directory.password={"colour":1}')

    def test_a_certificate_of_ours_can_stand_for_a_password(self):
        sets = ['directory.clientCertificateSecret="tls"', 'directory.bindDN=""', 'directory.bindPasswordSecret.name=""']
        ldap = config("lab", "directoryd", *sets)["ldap"]
        self.assertEqual((ldap["client-certificate"], ldap["client-key"]),
                         ("/etc/directoryd-tls/tls.crt", "/etc/directoryd-tls/tls.key"))
        self.assertNotIn("bind-dn", ldap)
        self.assertNotIn("bind-password-file", ldap)

    def test_nothing_in_them_looks_like_a_key(self):
        for ci in CI:
            for (kind, _), item in objects(ci.stem).items():
                if kind == "ConfigMap":
                    for file in item["data"].values():
                        self.assertIsNone(re.search(r"BEGIN|password *=", file))


if __name__ == "__main__":
    unittest.main()
