"""One masked autoencoder for every modality, over the shard data sets of `shard_tools`."""

import os

# Before torch is loaded: its threads otherwise spin for about a millisecond at each of a step's thousand barriers.
# Where other programs want the same cores, each spin waits for a thread that is not running, and a step takes many
# times as long. Not to spin at all takes a fifth longer on cores that are free.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
