"""Which references show somebody else, and which a face is restored with: told from identity angles alone."""

import math
from collections.abc import Sequence


def wrong_person(
    to_input: Sequence[float],
    between: Sequence[Sequence[float]],
    restored_to_input: float,
    matching_angle: float,
) -> tuple[bool | None, ...]:
    """For each reference whether it shows another person than the input; None where the evidence cannot tell.

    `to_input` are the references' identity angles to the input, `between[i][j]` those between references, in degrees. A
    pair matches up to `matching_angle`. A reference that matches the input is right. The others are judged

    - by the references that do match the input, if there are any: who matches at least half of them is right as well
      (a degraded input or a turned head alone does not condemn a reference), who does not is wrong;
    - else by the input, if the encoder still reads it (see `is_legible`): then all are wrong;
    - else only by each other: of three and more, who matches less than half of the rest is wrong, unless nobody does
      better. The rest stays open: the input carries too little identity to tell.
    """
    count = len(to_input)
    matching = [i for i in range(count) if to_input[i] <= matching_angle]
    legible = is_legible(to_input, restored_to_input, matching_angle)

    def supported(reference: int, others: Sequence[int]) -> bool:
        others = [other for other in others if other != reference]
        return 2 * sum(between[reference][other] <= matching_angle for other in others) >= len(others)

    def verdict(reference: int) -> bool | None:
        if reference in matching:
            return False
        if matching:
            return not supported(reference, matching)
        if legible:
            return True
        agreeing = [i for i in range(count) if supported(i, range(count))]
        return True if count >= 3 and agreeing and reference not in agreeing else None

    return tuple(verdict(reference) for reference in range(count))


def used_references(
    to_input: Sequence[float], between: Sequence[Sequence[float]], matching_angle: float
) -> tuple[bool, ...]:
    """For each reference whether the face is restored with it; angles as for `wrong_person`.

    Where some match the input, those that show another person are left out: one of them may be nearer in pose and take
    the place of the optimal reference (Eq. 6). Where none does, all are used: the input may be what cannot be read, and
    the generator's own gate judges them.
    """
    if not any(angle <= matching_angle for angle in to_input):
        return (True,) * len(to_input)
    # the restoration's angle counts only where nothing matches
    return tuple(not wrong for wrong in wrong_person(to_input, between, math.inf, matching_angle))


def is_legible(to_input: Sequence[float], restored_to_input: float, matching_angle: float) -> bool:
    """Whether the input carries enough identity to compare it with anybody.

    It does if some reference matches it, or if its own restoration does: an encoder that holds a picture and its
    restoration for two people has read noise in one of them.
    """
    return restored_to_input <= matching_angle or any(angle <= matching_angle for angle in to_input)
