"""Numbers of SIDs as sssd's own library maps them: SIDs on stdin, one number or "none" per line on stdout."""

import ctypes
import sys

library = ctypes.CDLL("libsss_idmap.so.0")
number, text, place = ctypes.c_uint32, ctypes.c_char_p, ctypes.c_void_p


class Range(ctypes.Structure):
    _fields_ = [("min", number), ("max", number)]


library.sss_idmap_init.argtypes = [place, place, place, ctypes.POINTER(place)]
library.sss_idmap_ctx_set_extra_slice_init.argtypes = [place, ctypes.c_int]
library.sss_idmap_calculate_range.argtypes = [place, text, ctypes.POINTER(number), ctypes.POINTER(Range)]
library.sss_idmap_add_auto_domain_ex.argtypes = [
    place, text, text, ctypes.POINTER(Range), text, number, ctypes.c_bool, place, place,
]
library.sss_idmap_sid_to_unix.argtypes = [place, text, ctypes.POINTER(number)]

context = place()
assert library.sss_idmap_init(None, None, None, ctypes.byref(context)) == 0
library.sss_idmap_ctx_set_extra_slice_init(context, 10)
known = set()
for line in sys.stdin:
    sid = line.strip()
    domain = sid.rsplit("-", 1)[0].encode()
    if domain not in known:
        known.add(domain)
        slice_number, ids = number(0xFFFFFFFF), Range()
        assert library.sss_idmap_calculate_range(context, domain, ctypes.byref(slice_number), ctypes.byref(ids)) == 0
        added = library.sss_idmap_add_auto_domain_ex(
            context, domain, domain, ctypes.byref(ids), None, 0, False, None, None
        )
        assert added == 0, added
    found = number(0)
    code = library.sss_idmap_sid_to_unix(context, sid.encode(), ctypes.byref(found))
    print(found.value if code == 0 else "none")
