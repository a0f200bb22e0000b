"""How soon a stream is opened again, and how much the log has of it."""

from lambent_chassis.reopened import FIRST_PAUSE_S, LONGEST_PAUSE_S, SAID_AGAIN_S, STEADY_S, Trouble


def test_a_peer_that_refuses_is_asked_ever_less() -> None:
    """For as long as that goes on; after a stream that was taken it begins anew."""
    trouble = Trouble()
    pauses = [trouble.ended(0.0, "no", at)[0] for at in range(8)]
    assert pauses[:3] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_S
    assert trouble.ended(STEADY_S, "lost", 9.0)[0] == FIRST_PAUSE_S


def test_the_log_has_each_reason_once_in_a_while() -> None:
    """Another one at once, the same again after a minute, or after a stream that was taken."""
    trouble = Trouble()
    said = [
        trouble.ended(0.0, "no", 0.0)[1],
        trouble.ended(0.0, "no", 1.0)[1],
        trouble.ended(0.0, "never", 2.0)[1],
        trouble.ended(0.0, "never", 1.0 + SAID_AGAIN_S)[1],
        trouble.ended(0.0, "never", 2.0 + SAID_AGAIN_S)[1],
        trouble.ended(STEADY_S, "never", 3.0 + SAID_AGAIN_S)[1],
    ]
    assert said == [True, False, True, False, True, True]
