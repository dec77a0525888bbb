"""The mark of a restored picture: metadata that says a trained network made part of it, and which (docs/adr/025)."""

from collections.abc import Mapping
from xml.sax.saxutils import quoteattr

#: IPTC's word, in its NewsCodes, for a photograph that what a trained model made was put into.
_SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
#: What that word and the one for a picture that is wholly made so have in common.
_MADE = b"rainedAlgorithmicMedia"


def restoration_mark(profile: str, version: str) -> bytes:
    """An XMP packet in UTF-8 for a picture restored by the bundle of this profile and version; no byte of it comes from
    the picture or its name."""
    tool = quoteattr(f"HonestFace {profile} {version}")
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        f' xmp:CreatorTool={tool} Iptc4xmpExt:DigitalSourceType="{_SOURCE}"/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    ).encode()


def says_generated(metadata: Mapping[str | tuple[int, int], object]) -> bool:
    """Whether a picture's metadata, as Pillow has read them, say that a trained model made it or part of it; whoever
    wrote them, and without parsing what a stranger sent."""
    xmp = metadata.get("xmp", b"")
    return isinstance(xmp, bytes) and _MADE in xmp
