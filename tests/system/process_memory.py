"""What a process holds in memory, read as root from /proc/PID/mem: does it (still) have this secret?"""

import base64
import pathlib

_CHUNK = 16 << 20


def forms(secret):
    """The bytes themselves and how programs write them."""
    standard = base64.b64encode(secret).rstrip(b'=')
    return {secret, secret.hex().encode(), secret.hex().upper().encode(), standard,
            base64.urlsafe_b64encode(secret).rstrip(b'=')}


def _regions(pid):
    for line in pathlib.Path(f'/proc/{pid}/maps').read_text(encoding='ascii').splitlines():
        span, rights = line.split()[:2]
        if rights.startswith('r') and '[vvar' not in line and '[vsyscall]' not in line:
            first, last = (int(end, 16) for end in span.split('-'))
            yield first, last, line.split(maxsplit=5)[5:] or ['']


def _chunks(pid):
    """(address, bytes, name of the mapping) of all that can be read, with an overlap in which a
    secret may lie. Of mappings that are mostly reserved address space only what is there."""
    with open(f'/proc/{pid}/mem', 'rb', buffering=0) as memory, \
            open(f'/proc/{pid}/pagemap', 'rb', buffering=0) as pagemap:
        for first, last, (name, *_) in _regions(pid):
            for start in range(first, last, _CHUNK):
                end = min(start + _CHUNK + 4096, last)
                if not _any_page(pagemap, start, end):
                    continue
                memory.seek(start)
                try:
                    yield start, memory.read(end - start), name
                except OSError:
                    continue  # devices, guard pages


def _any_page(pagemap, start, end):
    """Is a page of it in memory or in swap?"""
    pagemap.seek(start // 4096 * 8)
    entries = pagemap.read((end - start + 4095) // 4096 * 8)
    return any(entry & 0xC0 for entry in entries[7::8])


def find(pid, secrets):
    """{name of a secret: [where it lies]} of those that the process holds, in any form.
    `secrets` is {name: bytes}."""
    wanted = [(name, form) for name, secret in secrets.items() for form in forms(secret)]
    found = {}
    for start, content, mapping in _chunks(pid):
        for name, form in wanted:
            at = content.find(form)
            while at >= 0:
                found.setdefault(name, set()).add(f'{start + at:#x} {mapping}'.strip())
                at = content.find(form, at + 1)
    return {name: sorted(places) for name, places in found.items()}
