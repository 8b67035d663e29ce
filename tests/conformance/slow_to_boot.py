"""A module whose import takes until the test lets go of it."""

from fleet_actors import note, wait_for

note("booting")
wait_for("boot")
