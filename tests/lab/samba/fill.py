"""People and groups of the test domain, written straight into a new domain controller's database.

    fill.py DIR
"""

import pathlib
import sys

import ldb
from samba.auth import system_session
from samba.param import LoadParm
from samba.samdb import SamDB

folder = pathlib.Path(sys.argv[1])
settings = LoadParm()
settings.load(str(folder / "dc/etc/smb.conf"))
sam = SamDB(url=str(folder / "dc/private/sam.ldb"), session_info=system_session(), lp=settings)
secret = (folder / "secret/person-password").read_text()
key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB bob"


def change(name, **values):
    """Replaces attributes of an account."""
    message = ldb.Message(sam.search(expression=f"(sAMAccountName={name})")[0].dn)
    for attribute, value in values.items():
        message[attribute] = ldb.MessageElement(value, ldb.FLAG_MOD_REPLACE, attribute)
    sam.modify(message)


sam.newuser("reader", (folder / "secret/reader-password").read_text())
for name in ["bob", "Carol", "dave", "erin", "frank", "gina"]:
    sam.newuser(name, secret, givenname=name.capitalize(), surname="Example", useusernameascn=True)
# Nothing of POSIX, and a key among the identities.
change("bob", altSecurityIdentities=["X509:<I>CN=x<S>CN=bob", f"SSHKey:{key}"])
change("Carol", unixHomeDirectory="/home/c", loginShell="/bin/zsh", uidNumber="5002", gidNumber="5000", gecos="C")
change("dave", userAccountControl="514")
change("erin", accountExpires="132514560000000000")
change("frank", pwdLastSet="0")
change("gina", logonHours=b"\0" * 21)
for name in ["physics", "chemistry", "science", "empty"]:
    sam.newgroup(name)
change("physics", gidNumber="5000")
sam.add_remove_group_members("physics", ["bob", "Carol"])
sam.add_remove_group_members("chemistry", ["Carol", "dave"])
sam.add_remove_group_members("science", ["physics", "chemistry"])
(folder / "domain-sid").write_text(sam.get_domain_sid())
