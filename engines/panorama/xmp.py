"""XMP packets as text: Photo Sphere (GPano) properties, the other eye of a VR photo (GImage), and packets beyond 64 KB.

A JPEG segment holds 64 KB. What is longer lies in further segments, the extended packet, which holds properties of its
own. Everywhere else in this package a packet is one text; only reading and writing a JPEG file joins and splits it.

Sources: XMP Specification Part 3, 1.1.3.1 (JPEG); Google's Photo Sphere XMP and Cardboard Camera VR Photo Format.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
from collections.abc import Iterator, Sequence

GPANO = "http://ns.google.com/photos/1.0/panorama/"
GIMAGE = "http://ns.google.com/photos/1.0/image/"
NOTE = "http://ns.adobe.com/xmp/note/"
EMPTY = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
_BARE = EMPTY[EMPTY.index("<x:") : EMPTY.index("<?xpacket end")]
_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_STANDARD = b"http://ns.adobe.com/xap/1.0/\0"
_MOST = 65535 - 2 - len(_STANDARD)  # bytes of a packet in one segment
_PIECE = 65400  # bytes of an extended packet in one segment
_LONG = 4096  # characters from which on a property goes to the extended packet


def decode(packet: bytes) -> str:
    """A packet's text; bytes that are no UTF-8 survive `encode`."""
    return packet.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """The inverse of `decode`."""
    return text.encode("utf-8", "surrogateescape")


def prefix_of(text: str, namespace: str) -> str | None:
    """The prefix that a packet gives to a namespace; None where it does not know it."""
    found = re.search(rf"""xmlns:([\w.-]+)\s*=\s*["']{re.escape(namespace)}["']""", text)
    return found[1] if found else None


def value(text: str, namespace: str, name: str) -> str | None:
    """The text of a simple property, in either way to write one: name="4096" and <name>4096</name>."""
    found = _found(text, namespace, name)
    return None if found is None else next(group for group in found.groups() if group is not None).strip()


def without(text: str, namespace: str, *names: str) -> str:
    """The packet without some simple properties."""
    for name in names:
        while (found := _found(text, namespace, name)) is not None:
            text = text[: found.start()] + text[found.end() :]
    return text


def with_properties(text: str, namespace: str, prefix: str, properties: dict[str, str]) -> str:
    """The packet with simple properties in a description of their own; values must need no escaping."""
    given = " ".join(f'{prefix}:{name}="{value}"' for name, value in properties.items())
    node = f'<rdf:Description rdf:about="" xmlns:{prefix}="{namespace}" {given}/>'
    text = text if "</rdf:RDF>" in text else EMPTY
    return text.replace("</rdf:RDF>", node + "</rdf:RDF>", 1)


def other_eye(packet: bytes | None) -> bytes | None:
    """The image file of the other eye that a VR photo carries; None where there is none."""
    if packet is None or GIMAGE.encode("ascii") not in packet or GPANO.encode("ascii") not in packet:
        return None  # phones keep an unblurred picture there, too
    data = value(decode(packet), GIMAGE, "Data")
    try:
        return base64.b64decode(data + "=" * (-len(data) % 4)) or None if data else None
    except (binascii.Error, ValueError):
        return None


def with_other_eye(packet: bytes, image: bytes, mime: str) -> bytes:
    """The packet with another image file for the other eye."""
    text = without(decode(packet), GIMAGE, "Data", "Mime")
    data = {"Mime": mime, "Data": base64.b64encode(image).decode("ascii")}
    return encode(with_properties(text, GIMAGE, prefix_of(text, GIMAGE) or "GImage", data))


def join(packet: bytes | None, segments: Sequence[tuple[str, bytes]]) -> bytes | None:
    """A JPEG file's packet with what its extended segments hold.

    segments: the file's (marker, data), as Pillow's `applist`. An extended packet that is not whole is left out.
    """
    if packet is None or NOTE.encode("ascii") not in packet:
        return packet
    text = decode(packet)
    wanted = value(text, NOTE, "HasExtendedXMP")
    pieces: dict[int, bytes] = {}
    length = 0
    for _, data in segments:
        at = len(_EXTENSION)
        if data.startswith(_EXTENSION) and len(data) > at + 40 and data[at : at + 32] == (wanted or "").encode():
            length, offset = struct.unpack(">II", data[at + 32 : at + 40])
            pieces[offset] = data[at + 40 :]
    extended = b"".join(pieces[offset] for offset in sorted(pieces))
    if not extended or len(extended) != length:
        return packet
    nodes = "".join(_descriptions(decode(extended)))
    return encode(without(text, NOTE, "HasExtendedXMP").replace("</rdf:RDF>", nodes + "</rdf:RDF>", 1))


def segments(packet: bytes) -> bytes:
    """The segments of a JPEG file that hold a packet: one, and those of an extended packet where it is too long."""
    if len(packet) <= _MOST:
        return _segment(_STANDARD + packet)
    text, extended = decode(packet), _BARE
    for prefix, namespace in dict.fromkeys(re.findall(r"""xmlns:([\w.-]+)\s*=\s*["']([^"']+)["']""", text)):
        property_ = rf"[\s<]{re.escape(prefix)}:([\w.-]+)"
        long = rf"""{property_}\s*(?:=\s*["'][^"'<]{{{_LONG}}}|>[^<]{{{_LONG}}})"""
        moved = {name: value(text, namespace, name) or "" for name in re.findall(long, text)}
        if moved:
            text = without(text, namespace, *moved)
            extended = with_properties(extended, namespace, prefix, moved)
    data = encode(extended)
    digest = hashlib.md5(data, usedforsecurity=False).hexdigest().upper()
    main = encode(with_properties(text, NOTE, "xmpNote", {"HasExtendedXMP": digest}))
    if len(main) > _MOST:
        raise ValueError(f"XMP of {len(main)} bytes beside its long properties")
    head = _EXTENSION + digest.encode("ascii") + struct.pack(">I", len(data))
    pieces = [head + struct.pack(">I", at) + data[at : at + _PIECE] for at in range(0, len(data), _PIECE)]
    return b"".join(map(_segment, [_STANDARD + main, *pieces]))


def _segment(body: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", 2 + len(body)) + body


def _found(text: str, namespace: str, name: str) -> re.Match[str] | None:
    """A simple property with its text as one of the groups."""
    prefix = prefix_of(text, namespace)
    if prefix is None:
        return None
    full = rf"{re.escape(prefix)}:{re.escape(name)}"
    return re.search(rf"""\s{full}\s*=\s*(?:"([^"<>]*)"|'([^'<>]*)')|<{full}\s*>([^<]*)</{full}\s*>""", text)


def _descriptions(text: str) -> Iterator[str]:
    """The descriptions of a packet, each with the namespaces that it takes from the packet's head."""
    start = text.find("<rdf:Description")
    stop = text.rfind("</rdf:RDF>")
    if start < 0 or stop < start:
        return
    head, nodes = text[:start], text[start:stop]
    given = dict(re.findall(r"""xmlns:([\w.-]+)\s*=\s*["']([^"']+)["']""", head))
    more = "".join(
        f' xmlns:{prefix}="{namespace}"' for prefix, namespace in given.items() if prefix not in ("rdf", "x")
    )
    yield nodes.replace("<rdf:Description", f"<rdf:Description{more}", 1) if more else nodes
