"""Renders the chart with the real helm, for the tests beside this file; asserts nothing itself."""

import pathlib
import subprocess

import yaml

CHART = pathlib.Path(__file__).resolve().parent.parent
CI = sorted((CHART / "ci").glob("*.yaml"))


def helm(*arguments):
    """Returns (exit code, output) of one helm command."""
    done = subprocess.run(["helm", *map(str, arguments)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def text(ci, *sets):
    code, output = helm("template", "release", CHART, "--namespace", "ns", "--values", CHART / "ci" / f"{ci}.yaml",
                        *[f"--set-json={s}" for s in sets])
    return code, output


def refused(case, ci, expected, *sets):
    """Checks that these values are refused with a message that contains `expected`."""
    code, output = text(ci, *sets)
    case.assertNotEqual(code, 0, f"{sets} was accepted")
    case.assertIn(expected, output)


def objects(ci, *sets):
    code, output = text(ci, *sets)
    if code != 0:
        raise AssertionError(output)
    return {(o["kind"], o["metadata"]["name"]): o for o in yaml.safe_load_all(output) if o}


def pod(ci, *sets):
    return objects(ci, *sets)["Deployment", "release"]["spec"]["template"]


def service(ci, *sets):
    return objects(ci, *sets)["Service", "release"]
