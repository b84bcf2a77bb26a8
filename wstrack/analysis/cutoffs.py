"""The limits at which something is said, each once, with its reason."""

__all__ = [
    "CLUSTERS_P",
    "FALSE_DISCOVERIES",
    "FINDING_P",
    "HOLDS_FROM",
    "LEAST_OF_A_GROUP",
    "SHAKY_FROM",
    "SMALLEST_RATIO",
    "STABLE_FROM",
]

CLUSTERS_P = 0.05  # of the claim that there are clusters at all: wrong on one cloud of layers in one case of twenty

# Of each kind of finding: ten kinds of test, together wrong on noise in at most one run of twenty (Bonferroni).
FINDING_P = 0.005

FALSE_DISCOVERIES = 0.05  # the share of wrong ones among the layers that are said to differ between settings

# With a thousand layers a difference of 2 % is beyond chance and still not worth a sentence.
SMALLEST_RATIO = 1.2

STABLE_FROM = 0.8  # with the two halves in this agreement, nearly every layer keeps its companions
SHAKY_FROM = 0.5  # below it, chance has as much say as the run; a single cluster has dissolved (Hennig 2007)
HOLDS_FROM = 0.75  # of a single cluster, by Jaccard index (Hennig 2007)

LEAST_OF_A_GROUP = 3  # layers; one or two beside the others are outliers, and show no group
