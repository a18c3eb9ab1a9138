"""Rules about one case beside the baseline of a fleet (``dumpstart baseline``)."""

from __future__ import annotations

from .rule import Rule, table

RULES = table(
    [
        Rule(
            "fleet-slower",
            "warning",
            "Slower than in the fleet",
            "A duration or a speed of this case lies more than six robust standard deviations on "
            "the bad side of the median of the baseline.",
            "The machine, its disk or a driver version behaves unlike the fleet's others. A slow "
            "dump keeps the machine down, and a watchdog may end it.",
            "Compare driver versions and the disk with those of the fleet; 'dumpstart population' "
            "tells which trait goes with slow dumps.",
        ),
        Rule(
            "fleet-rare-failure",
            "warning",
            "A failure that is rare in the fleet",
            "Something failed here that failed in at most one of a hundred cases of the baseline.",
            "The failure is not the known state of the fleet, so something on this machine is new "
            "or broken.",
            "See the findings of the case about the same driver, and what changed on this machine.",
        ),
        Rule(
            "fleet-unknown-version",
            "info",
            "A driver version that the fleet does not have",
            "No case of the baseline has this version of the driver, though many have the driver.",
            "A new or very old version may behave differently from what the fleet shows.",
            "Update the driver, or save a new baseline once the version is in use.",
        ),
        Rule(
            "fleet-too-few",
            "info",
            "The baseline has too few cases to judge by",
            "The baseline has fewer than 20 cases of some of what this case was measured by, or "
            "fewer than 100 of something that happens or does not.",
            "With so few cases nobody can tell what is usual, so these measures were not judged.",
            "Scan more cases and save the baseline again.",
        ),
    ]
)
