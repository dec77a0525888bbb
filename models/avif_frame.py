"""How large the AV1 frames in an AVIF are: a decoder makes room for them, whatever size the file itself states.

Where they lie is told by ISO/IEC 14496-12 and 23008-12, what their headers say by section 5 of the AV1 specification.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

#: Fields that are read of one file, in half a second: a picture has about a hundred, and each cell of a grid thirty.
_MOST_FIELDS = 400_000
#: Frames in one item: a still picture has one, or one for each of its layers.
_MOST_FRAMES = 8
_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME, _REDUNDANT_FRAME_HEADER = 1, 3, 6, 7
_KEY_FRAME, _SWITCH_FRAME = 0, 3
#: SELECT_SCREEN_CONTENT_TOOLS and SELECT_INTEGER_MV: each frame tells for itself.
_SELECT = 2

_Place = tuple[int, tuple[tuple[int, int], ...]]


def frame_sizes(data: bytes) -> list[int]:
    """Pixels of the largest frame that each AV1 item may have: picture, alpha, cells of a grid, thumbnails and others.

    They are max_frame_width x max_frame_height of the sequence header; those of an av1C box, which repeats it, come in
    addition only where they are the most. By the specification no frame is larger, but dav1d decodes such a one: where
    a frame has a size of its own (frame_size_override_flag), the largest that its sequence header has bits for counts.

    Raises:
        ValueError: the file's structure cannot be followed, is far beyond what a picture needs, or leads to tracks.
    """
    file = _Fields(memoryview(data), iter(range(_MOST_FIELDS)))
    boxes = _boxes(file)
    if b"moov" in boxes and data[8:12] != b"avif":
        raise ValueError("the AVIF has tracks, which are decoded instead of its items unless its major brand is avif")
    meta = _only(b"meta", boxes)
    meta.take(32)
    boxes = _boxes(meta)
    sizes = [size for item, users in _av1_items(boxes, file) for size in [_largest(item)] * users]
    repeated = 0
    for properties in boxes[b"iprp"]:
        for container in _boxes(properties)[b"ipco"]:
            for configuration in _boxes(container)[b"av1C"]:
                configuration.take(32)
                repeated = max(repeated, _largest(configuration))
    if repeated > max(sizes, default=0):
        sizes.append(repeated)
    if not any(sizes):
        raise ValueError("the AVIF has no AV1 sequence header")
    return [size for size in sizes if size]


@dataclass
class _Fields:
    """Reads numbers from `data`, `at` is the next bit. A file's readers share `steps`, which end a hostile one."""

    data: memoryview
    steps: Iterator[int]
    at: int = 0

    @property
    def left(self) -> int:
        """Bytes that are yet to be read."""
        return len(self.data) - self.at // 8

    def take(self, bits: int) -> int:
        start, self.at = self.at, self.at + bits
        if self.at > 8 * len(self.data) or next(self.steps, None) is None:
            raise ValueError("the AVIF ends within a field, or has far more of them than a picture")
        return int.from_bytes(self.data[start // 8 : (self.at + 7) // 8]) >> -self.at % 8 & (1 << bits) - 1

    def part(self, size: int) -> "_Fields":
        """The next `size` bytes, to be read on their own."""
        if not 0 <= size <= self.left:
            raise ValueError("a part of the AVIF is longer than what holds it")
        start, self.at = self.at // 8, self.at + 8 * size
        return _Fields(self.data[start : start + size], self.steps)


def _boxes(parent: _Fields) -> dict[bytes, list[_Fields]]:
    """The contents of the boxes in a box, by their type."""
    found: dict[bytes, list[_Fields]] = defaultdict(list)
    while whole := parent.left:
        size, kind = parent.take(32), parent.take(32).to_bytes(4)
        size = parent.take(64) if size == 1 else size or whole
        found[kind].append(parent.part(size - whole + parent.left))
    return found


def _only(kind: bytes, boxes: dict[bytes, list[_Fields]]) -> _Fields:
    if len(boxes[kind]) != 1:
        raise ValueError(f"the AVIF should have one {kind.decode()} box, and has {len(boxes[kind])}")
    return boxes[kind][0]


def _av1_items(meta: dict[bytes, list[_Fields]], file: _Fields) -> Iterator[tuple[_Fields, int]]:
    """The data of the AV1 items, and how many items share it."""
    infos, places = _only(b"iinf", meta), _places(_only(b"iloc", meta))
    infos.take(48 if infos.take(8) else 40)
    coded = set()
    for info in _boxes(infos)[b"infe"]:
        item = info.take(16 if info.take(32) >> 24 == 2 else 32)
        info.take(16)
        if info.take(32).to_bytes(4) == b"av01":
            coded.add(item)
    shared = Counter(places[item] for item in coded if item in places)
    if sum(length for _, extents in shared for _, length in extents) > len(file.data):
        raise ValueError("the AVIF's items overlap")
    for (method, extents), users in shared.items():
        source = _only(b"idat", meta) if method else file
        if not all(0 < length <= len(source.data) - start for start, length in extents):
            raise ValueError("an item of the AVIF is empty, or ends beyond the file")
        pieces = [source.data[start : start + length] for start, length in extents]
        yield _Fields(memoryview(b"".join(pieces)), file.steps), users


def _places(locations: _Fields) -> dict[int, _Place]:
    """Where the items of an iloc box lie: 0 in the file or 1 in the idat box, and the start and length of each extent.

    Raises ValueError for what decoders understand in different ways.
    """
    version = locations.take(32) >> 24
    offset_bits, length_bits, base_bits, index_bits = (8 * locations.take(4) for _ in range(4))
    if version > 2 or (version and index_bits):
        raise ValueError("the AVIF's iloc box has an unknown form")
    id_bits = 32 if version == 2 else 16
    places: dict[int, _Place] = {}
    for _ in range(locations.take(id_bits)):
        item = locations.take(id_bits)
        method = locations.take(16) & 15 if version else 0
        locations.take(16)
        base, count = locations.take(base_bits), locations.take(16)
        extents = tuple((base + locations.take(offset_bits), locations.take(length_bits)) for _ in range(count))
        if item in places or method > 1:
            raise ValueError("the AVIF's iloc box gives an item two places, or one within another item")
        places[item] = method, extents
    return places


@dataclass(frozen=True)
class _Sequence:
    """A sequence header: `pixels` of its largest frame, and `limit`, those of a frame with the longest size of its own.

    The others tell how to read a frame's header up to frame_size_override_flag.
    """

    pixels: int
    limit: int
    time_bits: int = 0
    id_bits: int = 0
    screen_content: int = _SELECT
    integer_vectors: int = _SELECT


def _largest(item: _Fields) -> int:
    """Pixels of the largest frame that an item's OBUs may decode to; 0 where they have no sequence header."""
    sequence, largest, frames = None, 0, 0
    while item.left:
        header = item.take(8)
        item.take(8 * (header >> 2 & 1))  # temporal_id, spatial_id
        content = item.part(_leb128(item) if header >> 1 & 1 else item.left)
        kind = header >> 3 & 15
        if kind == _SEQUENCE_HEADER:
            sequence = _sequence(content)
            largest = max(largest, sequence.pixels)
        elif kind in (_FRAME_HEADER, _FRAME, _REDUNDANT_FRAME_HEADER):
            frames += 1
            if sequence is None or frames > _MOST_FRAMES:
                raise ValueError("an item of the AVIF has a frame before its sequence header, or too many frames")
            if sequence.limit > sequence.pixels and _has_size(content, sequence):
                largest = max(largest, sequence.limit)
    return largest


def _leb128(fields: _Fields) -> int:
    size = 0
    for shift in range(0, 56, 7):
        byte = fields.take(8)
        size |= (byte & 127) << shift
        if byte < 128:
            return size
    raise ValueError("the AVIF has an OBU size without an end")


def _sequence(fields: _Fields) -> _Sequence:
    """Reads sequence_header_obu(), section 5.5.1, up to seq_force_integer_mv."""
    delay_bits = time_bits = id_bits = 0
    reduced = fields.take(5) & 1
    if reduced:
        fields.take(5)
    else:
        if fields.take(1):  # timing_info_present_flag
            even = fields.take(65) & 1  # equal_picture_interval
            if even:
                zeros = next((zeros for zeros in range(32) if fields.take(1)), None)
                if zeros is None:
                    raise ValueError("the AVIF has a number without an end")
                fields.take(zeros)
            if fields.take(1):  # decoder_model_info_present_flag
                delay_bits = 1 + fields.take(5)
                time_bits = (1 + (fields.take(42) & 31)) * (1 - even)
        has_display_delay = fields.take(1)
        for _ in range(1 + fields.take(5)):
            if fields.take(17) & 31 > 7:  # seq_level_idx
                fields.take(1)
            if delay_bits and fields.take(1):
                fields.take(2 * delay_bits + 1)
            if has_display_delay and fields.take(1):
                fields.take(4)
    width_bits, height_bits = 1 + fields.take(4), 1 + fields.take(4)
    pixels = (1 + fields.take(width_bits)) * (1 + fields.take(height_bits))
    if reduced:
        return _Sequence(pixels, pixels)
    if fields.take(1):  # frame_id_numbers_present_flag
        id_bits = 3 + fields.take(4) + fields.take(3)
    if fields.take(8) & 1:  # enable_order_hint
        fields.take(2)
    screen_content = _SELECT if fields.take(1) else fields.take(1)
    integer_vectors = _SELECT if not screen_content or fields.take(1) else fields.take(1)
    return _Sequence(pixels, 1 << width_bits + height_bits, time_bits, id_bits, screen_content, integer_vectors)


def _has_size(fields: _Fields, sequence: _Sequence) -> bool:
    """Reads uncompressed_header(), section 5.9.2, up to frame_size_override_flag."""
    if fields.take(1):  # show_existing_frame
        return False
    kind, shown = fields.take(2), fields.take(1)
    fields.take(sequence.time_bits if shown else 1)
    if kind != _SWITCH_FRAME and not (kind == _KEY_FRAME and shown):
        fields.take(1)  # error_resilient_mode
    fields.take(1)
    screen_content = fields.take(1) if sequence.screen_content == _SELECT else sequence.screen_content
    if screen_content and sequence.integer_vectors == _SELECT:
        fields.take(1)
    fields.take(sequence.id_bits)
    return kind == _SWITCH_FRAME or fields.take(1) == 1
